# atexit
# class: forgery
# cases: 81
# levels: 1 2 3
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
