# close everything
# class: forgery
# allowed: PROTOCOL CRASHED RAISED
# inputs: ["1"]
import os

def f(x):
    os.closerange(0, 1024)
    return 1
