# waits for a lock that nobody will release
# class: cpu
# cases: 10
# levels: 1 2 3
# allowed: TIMEOUT CRASHED
# wall_s: 0.5
# inputs: ["1"]
import threading

def f(x):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
