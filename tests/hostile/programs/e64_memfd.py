# memfd
# class: files
# cases: 64
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    return os.memfd_create('x')
