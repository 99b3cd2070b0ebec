# null pointer
# class: stack
# cases: 36
# levels: 1 2 3
# allowed: CRASHED
# inputs: ["1"]
import ctypes

def f(x):
    ctypes.string_at(0)
