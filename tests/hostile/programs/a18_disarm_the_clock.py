# timer_delete and timer_settime on every timer
# class: cpu
# cases: 18
# allowed: TIMEOUT
# inputs: ["1", "2"]
import ctypes
import sys

def f(x):
    libc = ctypes.CDLL(None)
    delete, settime = (111, 110) if 'aarch64' in sys.implementation._multiarch else (226, 223)
    for timer in range(8):
        libc.syscall(delete, timer)
        spec = ctypes.create_string_buffer(32)
        libc.syscall(settime, timer, 0, spec, 0)
    while True:
        pass
