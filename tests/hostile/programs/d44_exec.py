# exec
# class: process
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    os.execv('/bin/sh', ['sh', '-c', 'touch /tmp/hostile_canary'])
