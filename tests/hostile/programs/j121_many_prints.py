# many prints
# class: output
# cases: 121
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
import sys

def f(x):
    for i in range(20000):
        print('y' * 20)
    print('x', file=sys.stderr)
    return 1
