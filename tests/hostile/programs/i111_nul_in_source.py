# nul in source
# class: values
# cases: 111
# levels: 1 2 3
# allowed: RAISED
# inputs: ["1"]
exec('x = 1\0')

def f(x):
    return 1
