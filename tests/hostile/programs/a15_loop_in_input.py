# the input expression never ends
# class: cpu
# allowed: TIMEOUT
# inputs: ["spin()"]
def spin():
    while True:
        pass

def f(x):
    return x
