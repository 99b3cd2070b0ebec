# long sum
# class: cpu
# cases: 7
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    return sum(range(10 ** 12))
