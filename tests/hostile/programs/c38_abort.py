# abort
# class: stack
# cases: 38
# levels: 1 2 3
# allowed: CRASHED
# inputs: ["1"]
import os

def f(x):
    os.abort()
