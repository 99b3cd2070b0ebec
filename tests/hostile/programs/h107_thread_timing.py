# a race of threads: none can be started
# class: nondeterminism
# cases: 107 42
# allowed: RAISED
# inputs: ["1"]
# deterministic: true
import threading

def f(x):
    seen = []
    threads = [threading.Thread(target=seen.append, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    return seen
