# override builtins
# class: forgery
# allowed: OK
# inputs: ["1"]
import builtins

def f(x):
    builtins.repr = builtins.type = builtins.len = builtins.isinstance = lambda *a: 666
    builtins.sorted = builtins.map = builtins.set = None
    return [1, {2}]
