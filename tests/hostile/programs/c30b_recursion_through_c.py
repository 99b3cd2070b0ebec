# recursion through c
# class: stack
# cases: 30
# levels: 1 2 3
# allowed: CRASHED RAISED TIMEOUT OOM
# inputs: ["1"]
import sys

class A:
    def __repr__(self):
        return repr([self])

def f(x):
    sys.setrecursionlimit(10 ** 9)
    return repr(A())
