# null pointer
# class: stack
# allowed: CRASHED
# inputs: ["1"]
import ctypes

def f(x):
    ctypes.string_at(0)
