# deep result
# class: stack
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    v = []
    for _ in range(200000):
        v = [v]
    return v
