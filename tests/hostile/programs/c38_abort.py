# abort
# class: stack
# allowed: CRASHED
# inputs: ["1"]
import os

def f(x):
    os.abort()
