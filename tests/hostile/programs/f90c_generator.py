#  generator
# class: forgery
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    yield 1
