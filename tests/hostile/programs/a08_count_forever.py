# count forever
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
import itertools

def f(x):
    return -1 in itertools.count()
