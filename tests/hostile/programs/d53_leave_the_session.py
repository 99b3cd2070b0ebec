# leave the session
# class: process
# cases: 53
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    os.setsid()
