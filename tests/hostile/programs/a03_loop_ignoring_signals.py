# loop ignoring signals
# class: cpu
# cases: 3
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
import signal

def f(x):
    for n in range(1, 65):
        try:
            signal.signal(n, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        pass
