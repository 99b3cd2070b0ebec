#  input
# class: output
# allowed: RAISED
# inputs: ["1"]
def f(x):
    return input()
