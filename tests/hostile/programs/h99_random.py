# random
# class: nondeterminism
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
import random

def f(x):
    return random.random()
