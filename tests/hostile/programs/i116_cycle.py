# cycle
# class: values
# cases: 116
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    v = [1]
    v.append(v)
    return v
