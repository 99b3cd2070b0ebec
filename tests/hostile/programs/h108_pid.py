# pid
# class: nondeterminism
# cases: 108
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
import os

def f(x):
    return os.getpid()
