# 2**60 nodes in 60 lists
# class: memory
# cases: 25
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
def f(x):
    v = []
    for _ in range(60):
        v = [v, v]
    return v
