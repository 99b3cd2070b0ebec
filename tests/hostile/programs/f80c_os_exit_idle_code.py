# the code with which an idle child tells its zygote to go
# class: forgery
# allowed: CRASHED
# inputs: ["1"]
import os

def f(x):
    os._exit(97)
