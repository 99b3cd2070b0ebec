# lying order
# class: cpu
# cases: 16
# levels: 1 2 3
# allowed: TIMEOUT OOM
# inputs: ["1"]
class A:
    def __lt__(self, other):
        while True:
            pass

def f(x):
    return sorted([A(), A()])
