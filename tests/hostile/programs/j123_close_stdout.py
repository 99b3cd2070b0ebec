#  close stdout
# class: output
# allowed: OK RAISED
# inputs: ["1"]
import sys

def f(x):
    sys.stdout.close()
    sys.stderr = None
    return 1
