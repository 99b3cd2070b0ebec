# integer over the digit limit
# class: cpu
# cases: 9
# levels: 1 2 3
# allowed: RAISED UNSUPPORTED
# inputs: ["1"]
def f(x):
    return str(10 ** 200000)
