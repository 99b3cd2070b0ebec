# sleep
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
import time

def f(x):
    time.sleep(1e6)
