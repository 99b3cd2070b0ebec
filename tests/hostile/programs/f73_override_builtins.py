# override builtins
# class: forgery
# cases: 73
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
import builtins

def f(x):
    builtins.repr = builtins.type = builtins.len = builtins.isinstance = lambda *a: 666
    builtins.sorted = builtins.map = builtins.set = None
    return [1, {2}]
