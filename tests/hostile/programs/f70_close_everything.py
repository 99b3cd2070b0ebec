# close everything
# class: forgery
# cases: 70
# levels: 1 2 3
# allowed: PROTOCOL CRASHED RAISED
# inputs: ["1"]
import os

def f(x):
    os.closerange(0, 1024)
    return 1
