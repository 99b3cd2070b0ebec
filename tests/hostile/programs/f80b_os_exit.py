#  os exit
# class: forgery
# allowed: PROTOCOL
# inputs: ["1"]
import os

def f(x):
    os._exit(0)
