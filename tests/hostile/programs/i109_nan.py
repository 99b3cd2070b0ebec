# NaN equals nothing: no answer could be right
# class: values
# allowed: UNSUPPORTED
# inputs: ["1"]
# deterministic: true
def f(x):
    return [1, float('nan')]
