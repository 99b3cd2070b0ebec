# enum
# class: values
# cases: 115
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
import enum

class A(enum.IntEnum):
    X = 1

def f(x):
    return A.X
