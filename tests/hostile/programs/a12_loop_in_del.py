# a finaliser that never ends: the process leaves without finalising
# class: cpu
# cases: 12
# levels: 1 2 3
# allowed: OK TIMEOUT
# inputs: ["1"]
class A:
    def __del__(self):
        while True:
            pass

keep = A()

def f(x):
    return 1
