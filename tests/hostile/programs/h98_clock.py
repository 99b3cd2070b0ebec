# clock
# class: nondeterminism
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
import time

def f(x):
    return time.perf_counter_ns()
