# executable memory
# class: files
# cases: 97
# allowed: RAISED
# inputs: ["1"]
import ctypes

def f(x):
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_long
    libc.mmap.argtypes = [ctypes.c_long] * 6
    if libc.mmap(0, 4096, 7, 0x22, -1, 0) != -1:
        return 'escaped'
    raise PermissionError
