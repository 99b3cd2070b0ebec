# pidfd
# class: process
# cases: 48
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    return os.pidfd_open(1)
