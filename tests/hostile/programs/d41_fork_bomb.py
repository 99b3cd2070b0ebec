# fork bomb
# class: process
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    while True:
        os.fork()
