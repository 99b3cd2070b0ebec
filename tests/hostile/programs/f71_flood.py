# flood
# class: forgery
# cases: 71
# levels: 1 2 3
# allowed: PROTOCOL TIMEOUT
# inputs: ["1"]
import os

def f(x):
    junk = b'\x01' * 65536
    while True:
        for fd in range(3, 16):
            try:
                os.write(fd, junk)
            except OSError:
                pass
