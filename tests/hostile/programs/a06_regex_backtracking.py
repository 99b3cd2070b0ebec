# regex backtracking
# class: cpu
# cases: 6
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
import re

def f(x):
    return bool(re.match(r'(a+)+$', 'a' * 60 + 'b'))
