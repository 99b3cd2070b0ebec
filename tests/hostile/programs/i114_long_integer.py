#  long integer
# class: values
# allowed: UNSUPPORTED RAISED
# inputs: ["1"]
def f(x):
    return 10 ** 5000
