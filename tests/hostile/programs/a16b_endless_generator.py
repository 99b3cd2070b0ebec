#  endless generator
# class: cpu
# allowed: TIMEOUT OOM
# inputs: ["1"]
def g():
    while True:
        yield 1

def f(x):
    return list(g())
