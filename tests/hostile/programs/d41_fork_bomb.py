# fork bomb
# class: process
# cases: 41
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    while True:
        os.fork()
