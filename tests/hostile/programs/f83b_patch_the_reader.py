# replaces what later jobs read with
# class: forgery
# cases: 83 73
# levels: 1 2 3
# allowed: OK RAISED PROTOCOL CRASHED
# inputs: ["1"]
import builtins
import os
import sys

def f(x):
    os.read = os.write = os._exit = lambda *a: b'666'
    builtins.compile = builtins.eval = builtins.exec = lambda *a, **k: 666
    sys.modules.clear()
    return 1
