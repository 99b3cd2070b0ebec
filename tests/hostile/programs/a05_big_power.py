# big power
# class: cpu
# allowed: TIMEOUT OOM
# inputs: ["1"]
def f(x):
    return 7 ** (10 ** 9) % 10
