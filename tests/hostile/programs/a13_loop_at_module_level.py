# loop at module level
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
while True:
    pass

def f(x):
    return 1
