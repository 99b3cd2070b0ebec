# sleep
# class: cpu
# cases: 10
# levels: 1 2 3
# allowed: TIMEOUT
# wall_s: 0.5
# inputs: ["1"]
import time

def f(x):
    time.sleep(1e6)
