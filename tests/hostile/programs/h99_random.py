# random
# class: nondeterminism
# cases: 99
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
import random

def f(x):
    return random.random()
