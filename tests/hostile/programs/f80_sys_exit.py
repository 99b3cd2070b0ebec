# sys exit
# class: forgery
# allowed: RAISED
# inputs: ["1"]
import sys

def f(x):
    sys.exit(0)
