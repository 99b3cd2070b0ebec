# deep literal
# class: forgery
# cases: 34 69
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
import os

def f(x):
    text = b'[' * 60000
    for fd in range(3, 16):
        try:
            os.write(fd, b'\x01' + bytes(4) + len(text).to_bytes(4, 'little') + text + b'\xff')
        except OSError:
            pass
    os._exit(0)
