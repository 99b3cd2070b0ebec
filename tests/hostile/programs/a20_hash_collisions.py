# hash collisions
# class: cpu
# cases: 20
# levels: 1 2 3
# allowed: TIMEOUT OOM
# inputs: ["1"]
def f(x):
    m = 2 ** 61 - 1
    return len({i * m: 0 for i in range(1, 10 ** 6)})
