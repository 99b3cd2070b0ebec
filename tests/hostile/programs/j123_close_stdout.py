# close stdout
# class: output
# cases: 123
# levels: 1 2 3
# allowed: OK RAISED
# inputs: ["1"]
import sys

def f(x):
    sys.stdout.close()
    sys.stderr = None
    return 1
