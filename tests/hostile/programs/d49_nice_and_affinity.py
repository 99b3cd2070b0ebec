# nice and affinity
# class: process
# cases: 49
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    try:
        os.sched_setaffinity(0, [0])
    except OSError:
        os.nice(-20)
