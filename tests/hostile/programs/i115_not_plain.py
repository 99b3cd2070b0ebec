# not plain
# class: values
# cases: 115
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
from collections import Counter

def f(x):
    return [Counter('a'), bytearray(1), range(3)]
