# deep result
# class: stack
# cases: 31
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    v = []
    for _ in range(200000):
        v = [v]
    return v
