# exec
# class: process
# cases: 44
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    os.execv('/bin/sh', ['sh', '-c', 'touch /tmp/hostile_canary'])
