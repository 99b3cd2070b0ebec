# stop self
# class: process
# cases: 47
# levels: 1 2 3
# allowed: RAISED TIMEOUT
# wall_s: 0.5
# inputs: ["1"]
import os
import signal

def f(x):
    os.kill(os.getpid(), signal.SIGSTOP)
