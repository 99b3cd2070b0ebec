# integer over the digit limit
# class: cpu
# allowed: RAISED UNSUPPORTED
# inputs: ["1"]
def f(x):
    return str(10 ** 200000)
