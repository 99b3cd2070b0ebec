#  cycle
# class: values
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    v = [1]
    v.append(v)
    return v
