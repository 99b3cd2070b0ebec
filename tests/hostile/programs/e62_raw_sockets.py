# raw sockets
# class: files
# cases: 62
# allowed: RAISED
# inputs: ["1"]
import ctypes

def f(x):
    libc = ctypes.CDLL(None)
    for family in (1, 2, 10, 16, 17, 40):
        if libc.socket(family, 1, 0) >= 0:
            return 'escaped'
    raise PermissionError
