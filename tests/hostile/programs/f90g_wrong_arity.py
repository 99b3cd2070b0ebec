# the entry takes other arguments
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: RAISED
# inputs: ["", "1", "1, 2, 3"]
def f(x, y):
    return x
