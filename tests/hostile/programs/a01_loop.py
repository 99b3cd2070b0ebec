# loop
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    while True:
        pass
