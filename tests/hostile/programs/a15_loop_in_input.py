# the input expression never ends
# class: cpu
# cases: 15
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["spin()"]
def spin():
    while True:
        pass

def f(x):
    return x
