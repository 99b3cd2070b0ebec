# iter forever
# class: cpu
# cases: 11
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    for _ in iter(int, 1):
        pass
