#  keyboard interrupt
# class: forgery
# allowed: RAISED
# inputs: ["1"]
def f(x):
    raise KeyboardInterrupt
