# input
# class: output
# cases: 122
# levels: 1 2 3
# allowed: RAISED
# inputs: ["1"]
def f(x):
    return input()
