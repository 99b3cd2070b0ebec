# writes to the standard descriptors
# class: output
# cases: 124
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
import os

def f(x):
    for k in range(2000):
        os.write(1, b'escaped ' * 100)
        os.write(2, b'escaped ' * 100)
    return x
