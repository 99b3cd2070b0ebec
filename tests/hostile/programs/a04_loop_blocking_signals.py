# loop blocking signals
# class: cpu
# cases: 4
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
import signal

def f(x):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        pass
