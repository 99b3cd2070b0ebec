# long integer
# class: values
# cases: 114
# levels: 1 2 3
# allowed: UNSUPPORTED RAISED
# inputs: ["1"]
def f(x):
    return 10 ** 5000
