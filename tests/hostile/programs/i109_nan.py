# NaN equals nothing: no answer could be right
# class: values
# cases: 109
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
# deterministic: true
def f(x):
    return [1, float('nan')]
