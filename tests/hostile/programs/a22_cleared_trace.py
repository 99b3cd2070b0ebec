# cleared trace
# class: cpu
# cases: 1 18
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
import sys

def f(x):
    sys.settrace(lambda *a: None)
    sys.setswitchinterval(1e6)
    while True:
        pass
