# network
# class: files
# cases: 61
# allowed: RAISED
# inputs: ["1"]
import ctypes

def f(x):
    libc = ctypes.CDLL(None, use_errno=True)
    s = libc.socket(2, 1, 0)
    if s >= 0:
        libc.connect(s, bytes([2, 0, 0, 80, 169, 254, 169, 254]) + bytes(8), 16)
        return 'escaped'
    raise OSError(ctypes.get_errno(), 'socket')
