# reads every descriptor, among them the job pipe
# class: cpu
# cases: 66 71
# levels: 1 2 3
# allowed: TIMEOUT RAISED
# wall_s: 0.5
# inputs: ["1"]
import os

def f(x):
    got = b''
    for fd in range(3, 16):
        try:
            got += os.read(fd, 1000)
        except OSError:
            pass
    return got
