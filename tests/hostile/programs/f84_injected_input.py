# text that closes the call
# class: forgery
# allowed: RAISED
# inputs: ["1) or (2", "1)\nstr(2", "*[1]", "x=1", "**{}", "1 #", "lambda"]
def f(x):
    return x
