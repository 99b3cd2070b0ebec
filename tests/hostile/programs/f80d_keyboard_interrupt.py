# keyboard interrupt
# class: forgery
# cases: 80
# levels: 1 2 3
# allowed: RAISED
# inputs: ["1"]
def f(x):
    raise KeyboardInterrupt
