# text that closes the call
# class: forgery
# cases: 84
# levels: 1 2 3
# allowed: RAISED OK
# inputs: ["1) or (2", "1)\nstr(2", "*[1]", "x=1", "**{}", "1 #", "lambda"]
def f(x):
    return x
