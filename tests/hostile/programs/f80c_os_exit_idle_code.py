# the code with which an idle child tells its zygote to go
# class: forgery
# cases: 80
# levels: 1 2 3
# allowed: CRASHED
# inputs: ["1"]
import os

def f(x):
    os._exit(97)
