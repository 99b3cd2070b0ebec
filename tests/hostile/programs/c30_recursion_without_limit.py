# recursion without limit
# class: stack
# cases: 30
# levels: 1 2 3
# allowed: CRASHED RAISED TIMEOUT OOM
# inputs: ["1"]
import sys

def f(x):
    sys.setrecursionlimit(10 ** 9)
    def g(n):
        return g(n + 1)
    return g(0)
