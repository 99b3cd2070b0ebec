# long sum
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    return sum(range(10 ** 12))
