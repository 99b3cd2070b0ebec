# overwrite own memory
# class: introspection
# cases: 96
# allowed: CRASHED OK RAISED TIMEOUT PROTOCOL OOM UNSUPPORTED
# inputs: ["1"]
import ctypes

def f(x):
    for address in range(id(1), id(1) + 4096, 8):
        ctypes.c_long.from_address(address).value = 0x4141414141414141
    return 1
