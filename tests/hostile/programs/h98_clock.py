# clock
# class: nondeterminism
# cases: 98
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
import time

def f(x):
    return time.perf_counter_ns()
