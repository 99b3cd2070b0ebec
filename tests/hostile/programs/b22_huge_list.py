# huge list
# class: memory
# cases: 22
# levels: 1 2 3
# allowed: OOM
# inputs: ["1"]
def f(x):
    return len([0] * 10 ** 11)
