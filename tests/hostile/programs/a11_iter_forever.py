# iter forever
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    for _ in iter(int, 1):
        pass
