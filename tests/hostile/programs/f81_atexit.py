# atexit
# class: forgery
# allowed: OK
# inputs: ["1"]
import atexit
import os

def f(x):
    try:
        atexit.register(os.write, 4, b'junk')
    except Exception:
        pass
    return 1
