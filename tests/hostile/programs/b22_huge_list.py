# huge list
# class: memory
# allowed: OOM
# inputs: ["1"]
def f(x):
    return len([0] * 10 ** 11)
