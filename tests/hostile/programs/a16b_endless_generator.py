# endless generator
# class: cpu
# cases: 16
# levels: 1 2 3
# allowed: TIMEOUT OOM
# inputs: ["1"]
def g():
    while True:
        yield 1

def f(x):
    return list(g())
