# half a frame
# class: forgery
# cases: 69
# levels: 1 2 3
# allowed: PROTOCOL
# inputs: ["1"]
import os

def f(x):
    for fd in range(3, 16):
        try:
            os.write(fd, b'\x01\x00\x00')
        except OSError:
            pass
    os._exit(0)
