# huge result
# class: memory
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    return 'a' * (50 << 20)
