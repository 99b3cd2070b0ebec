# leave the session
# class: process
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    os.setsid()
