# two frames
# class: forgery
# cases: 69
# levels: 1 2 3
# allowed: PROTOCOL
# inputs: ["1"]
import os

def f(x):
    for fd in range(3, 16):
        try:
            os.write(fd, b"\x01" + bytes(4) + (3).to_bytes(4, "little") + b"666" + b'\xff')
        except OSError:
            pass
    return 666
