# loop at module level
# class: cpu
# cases: 13
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
while True:
    pass

def f(x):
    return 1
