#  surrogate
# class: values
# allowed: OK
# inputs: ["1"]
# deterministic: true
def f(x):
    return '\ud800' + chr(0xdfff)
