# cleared trace
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
import sys

def f(x):
    sys.settrace(lambda *a: None)
    sys.setswitchinterval(1e6)
    while True:
        pass
