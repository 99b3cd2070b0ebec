# daemon
# class: process
# cases: 51
# allowed: RAISED
# inputs: ["1"]
import os
import time

def f(x):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
    return 1
