# tracing
# class: forgery
# cases: 82
# levels: 1 2 3
# allowed: OK UNSUPPORTED RAISED PROTOCOL
# inputs: ["1"]
import sys

def f(x):
    def trace(frame, event, arg):
        frame.f_locals['claim'] = frame.f_locals['text'] = '666'
        return trace
    sys.settrace(trace)
    sys.setprofile(trace)
    return 1
