# b enum
# class: values
# allowed: UNSUPPORTED
# inputs: ["1"]
import enum

class A(enum.IntEnum):
    X = 1

def f(x):
    return A.X
