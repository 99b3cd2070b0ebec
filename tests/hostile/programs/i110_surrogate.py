# surrogate
# class: values
# cases: 110
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
# deterministic: true
def f(x):
    return '\ud800' + chr(0xdfff)
