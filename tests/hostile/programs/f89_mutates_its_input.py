# the input is evaluated afresh for each call
# class: forgery
# cases: 89
# levels: 1 2 3
# allowed: OK
# inputs: ["[]"]
# deterministic: true
def f(x):
    x.append(1)
    return x
