# lambda
# class: values
# cases: 118
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    return lambda: 1
