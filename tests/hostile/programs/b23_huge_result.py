# huge result
# class: memory
# cases: 23
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    return 'a' * (50 << 20)
