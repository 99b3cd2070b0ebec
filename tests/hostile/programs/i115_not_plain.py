#  not plain
# class: values
# allowed: UNSUPPORTED
# inputs: ["1"]
from collections import Counter

def f(x):
    return [Counter('a'), bytearray(1), range(3)]
