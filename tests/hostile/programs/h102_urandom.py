# urandom
# class: nondeterminism
# cases: 102
# levels: 1 2 3
# allowed: NONDETERMINISTIC RAISED
# inputs: ["1"]
# deterministic: true
import os

def f(x):
    return os.urandom(8)
