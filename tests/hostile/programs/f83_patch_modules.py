# patch modules
# class: forgery
# cases: 83
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
import json
import math
import sys

def f(x):
    math.gcd = lambda *a: 666
    json.dumps = json.loads = None
    sys.modules['math'] = None
    sys.modules['re'] = None
    sys.meta_path.clear()
    return 1
