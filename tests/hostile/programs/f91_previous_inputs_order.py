# sniffs which call it is, through a module that outlives the namespace
# class: forgery
# cases: 86
# levels: 1 2 3
# allowed: NONDETERMINISTIC OK
# inputs: ["1", "2", "3"]
# deterministic: true
import math

def f(x):
    math.seen = getattr(math, 'seen', 0) + 1
    return math.seen // 2
