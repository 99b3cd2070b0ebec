# generator
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    yield 1
