# os exit
# class: forgery
# cases: 80
# levels: 1 2 3
# allowed: PROTOCOL
# inputs: ["1"]
import os

def f(x):
    os._exit(0)
