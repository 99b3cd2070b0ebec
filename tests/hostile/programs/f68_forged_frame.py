# only a claimed value: compared like any other
# class: forgery
# cases: 68
# levels: 1 2 3
# allowed: OK PROTOCOL
# inputs: ["1"]
import os

def f(x):
    for fd in range(3, 16):
        try:
            os.write(fd, b"\x01" + bytes(4) + (3).to_bytes(4, "little") + b"666" + b'\xff')
        except OSError:
            pass
    os._exit(0)
