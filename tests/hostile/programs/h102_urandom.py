#  urandom
# class: nondeterminism
# allowed: NONDETERMINISTIC RAISED
# inputs: ["1"]
# deterministic: true
import os

def f(x):
    return os.urandom(8)
