# memfd
# class: files
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    return os.memfd_create('x')
