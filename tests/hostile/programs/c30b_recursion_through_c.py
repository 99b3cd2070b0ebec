#  recursion through c
# class: stack
# allowed: CRASHED RAISED TIMEOUT OOM
# inputs: ["1"]
import sys

class A:
    def __repr__(self):
        return repr([self])

def f(x):
    sys.setrecursionlimit(10 ** 9)
    return repr(A())
