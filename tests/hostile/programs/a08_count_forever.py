# count forever
# class: cpu
# cases: 8
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
import itertools

def f(x):
    return -1 in itertools.count()
