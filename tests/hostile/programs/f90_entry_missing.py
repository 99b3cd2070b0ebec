# entry missing
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: RAISED
# inputs: ["1"]
def g(x):
    return 1
