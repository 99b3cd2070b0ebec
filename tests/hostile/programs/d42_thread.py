# thread
# class: process
# cases: 42
# allowed: RAISED
# inputs: ["1"]
import _thread

def f(x):
    _thread.start_new_thread(print, ())
