# no return, and tuples that are no lists
# class: values
# cases: 119
# levels: 1 2 3
# allowed: OK
# inputs: ["0", "1", "2", "3"]
def f(x):
    if x == 1:
        return (1, 2)
    if x == 2:
        return [1, 2]
    if x == 3:
        return ((1,), ())
