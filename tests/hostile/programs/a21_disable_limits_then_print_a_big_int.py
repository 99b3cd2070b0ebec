# disable limits then print a big int
# class: cpu
# cases: 9
# levels: 1 2 3
# allowed: TIMEOUT UNSUPPORTED OOM
# inputs: ["1"]
import sys

def f(x):
    sys.set_int_max_str_digits(0)
    return 10 ** 3000000
