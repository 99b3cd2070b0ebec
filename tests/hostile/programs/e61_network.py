# network
# class: files
# allowed: RAISED
# inputs: ["1"]
import _socket

def f(x):
    s = _socket.socket(2, 1)
    s.connect(('169.254.169.254', 80))
