# loop
# class: cpu
# cases: 1
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    while True:
        pass
