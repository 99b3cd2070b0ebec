# eval brackets
# class: stack
# cases: 32
# levels: 1 2 3
# allowed: RAISED OOM
# inputs: ["1"]
def f(x):
    return eval('(' * 10000 + ')' * 10000)
