# kill all
# class: process
# cases: 46
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    try:
        os.kill(-1, 9)
    except ProcessLookupError:
        raise PermissionError from None
