# every name in every frame above: there is no gold among them
# class: forgery
# cases: 74
# levels: 1 2 3
# allowed: OK UNSUPPORTED
# inputs: ["1"]
import sys

def f(x):
    frame, found = sys._getframe(), []
    while frame is not None:
        for space in (frame.f_locals, frame.f_globals):
            found += [(str(key), repr(value)[:500]) for key, value in list(space.items())]
        frame = frame.f_back
    if any(name in key for key, _ in found for name in ('gold', 'expected', 'answer')):
        return 'escaped'
    return found
