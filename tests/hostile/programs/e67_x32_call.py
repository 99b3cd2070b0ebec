# the x32 system-call range: the process is killed
# class: files
# cases: 67
# allowed: CRASHED RAISED OK
# inputs: ["1"]
import ctypes
import os

def f(x):
    if os.uname is None:
        return 1
    ctypes.CDLL(None).syscall(0x40000000 + 39)
    return 'escaped'
