# timer_delete and timer_settime on every timer
# class: cpu
# allowed: TIMEOUT
# inputs: ["1", "2"]
import ctypes

def f(x):
    libc = ctypes.CDLL(None)
    for timer in range(8):
        libc.syscall(226, timer)
        spec = ctypes.create_string_buffer(32)
        libc.syscall(223, timer, 0, spec, 0)
    while True:
        pass
