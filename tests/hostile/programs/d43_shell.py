# os.system answers with an error code
# class: process
# cases: 43
# allowed: OK RAISED
# inputs: ["1"]
import os

def f(x):
    return os.system('touch /tmp/hostile_canary') == 0 and 'escaped'
