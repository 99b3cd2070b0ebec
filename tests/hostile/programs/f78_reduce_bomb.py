# reduce bomb
# class: forgery
# cases: 78
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
import os

class A:
    def __reduce__(self):
        return os.system, ('touch /tmp/hostile_canary',)

def f(x):
    return A()
