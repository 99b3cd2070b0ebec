# stop self
# class: process
# allowed: RAISED TIMEOUT
# inputs: ["1"]
import os
import signal

def f(x):
    os.kill(os.getpid(), signal.SIGSTOP)
