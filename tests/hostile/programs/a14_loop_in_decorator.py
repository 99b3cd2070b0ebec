# loop in decorator
# class: cpu
# cases: 14
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
def d(g):
    while True:
        pass

@d
def f(x):
    return 1
