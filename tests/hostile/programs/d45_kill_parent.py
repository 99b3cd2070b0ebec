# kill parent
# class: process
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    os.kill(os.getppid(), 9)
