# big range
# class: memory
# cases: 24
# levels: 1 2 3
# allowed: OOM TIMEOUT
# inputs: ["1"]
def f(x):
    return len(list(range(10 ** 9)))
