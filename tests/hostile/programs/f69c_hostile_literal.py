# hostile literal
# class: forgery
# cases: 69 68
# levels: 1 2 3
# allowed: PROTOCOL
# inputs: ["1"]
import os

def f(x):
    text = b'__import__("os").system("touch /tmp/hostile_canary")'
    for fd in range(3, 16):
        try:
            os.write(fd, b'\x01' + bytes(4) + len(text).to_bytes(4, 'little') + text + b'\xff')
        except OSError:
            pass
    os._exit(0)
