# big power
# class: cpu
# cases: 5
# levels: 1 2 3
# allowed: TIMEOUT OOM
# inputs: ["1"]
def f(x):
    return 7 ** (10 ** 9) % 10
