# the input is evaluated afresh for each call
# class: forgery
# allowed: OK
# inputs: ["[]"]
# deterministic: true
def f(x):
    x.append(1)
    return x
