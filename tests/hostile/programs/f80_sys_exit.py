# sys exit
# class: forgery
# cases: 80
# levels: 1 2 3
# allowed: RAISED
# inputs: ["1"]
import sys

def f(x):
    sys.exit(0)
