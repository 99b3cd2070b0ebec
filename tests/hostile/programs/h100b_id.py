# id
# class: nondeterminism
# cases: 100
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x):
    return id(f)
