#  nul in source
# class: values
# allowed: RAISED
# inputs: ["1"]
exec('x = 1\0')

def f(x):
    return 1
