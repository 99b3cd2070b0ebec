# numbers that compare equal stay apart
# class: values
# cases: 109
# levels: 1 2 3
# allowed: OK
# inputs: ["0", "-0.0, True"]
# deterministic: true
def f(x, y=1):
    return [x, y, -0.0, True, 1, 1.0, float('inf'), -float('inf'), 0.1 + 0.2]
