# other processes
# class: files
# cases: 59
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    return open(f'/proc/{os.getppid()}/environ').read() + open('/proc/1/cmdline').read()
