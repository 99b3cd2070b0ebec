# kill parent
# class: process
# cases: 45
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    os.kill(os.getppid(), 9)
