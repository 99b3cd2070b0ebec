# big range
# class: memory
# allowed: OOM TIMEOUT
# inputs: ["1"]
def f(x):
    return len(list(range(10 ** 9)))
