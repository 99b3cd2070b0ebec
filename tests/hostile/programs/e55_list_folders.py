# list folders
# class: files
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    return os.listdir('/root') + os.listdir('/')
