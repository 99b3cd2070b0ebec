# eval brackets
# class: stack
# allowed: RAISED OOM
# inputs: ["1"]
def f(x):
    return eval('(' * 10000 + ')' * 10000)
