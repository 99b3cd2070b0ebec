# the later definition counts
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
def f(x):
    return 'escaped'

def f(x):
    return x
