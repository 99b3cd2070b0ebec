# loop in decorator
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
def d(g):
    while True:
        pass

@d
def f(x):
    return 1
