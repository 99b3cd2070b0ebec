# anonymous mmap
# class: memory
# cases: 29
# levels: 1 2 3
# allowed: OOM RAISED
# inputs: ["1"]
import ctypes

def f(x):
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_long
    libc.mmap.argtypes = [ctypes.c_long] * 6
    if libc.mmap(0, 1 << 36, 3, 0x22, -1, 0) == -1:
        raise MemoryError
    return 1
