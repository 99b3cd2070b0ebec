# list folders
# class: files
# cases: 55
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    return os.listdir('/root') + os.listdir('/')
