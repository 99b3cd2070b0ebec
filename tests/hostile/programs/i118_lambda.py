#  lambda
# class: values
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    return lambda: 1
