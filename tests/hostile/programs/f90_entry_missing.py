# entry missing
# class: forgery
# allowed: RAISED
# inputs: ["1"]
def g(x):
    return 1
