# a hook that the first call leaves to change the second
# class: forgery
# cases: 82
# levels: 1 2 3
# allowed: OK NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
import sys

def trace(frame, event, arg):
    if frame.f_code.co_name == 'f':
        sys.hooked = True
    return trace

def f(x):
    sys.settrace(trace)
    sys.setprofile(trace)
    return getattr(sys, 'hooked', False)
