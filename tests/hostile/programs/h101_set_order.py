# set order
# class: nondeterminism
# cases: 101
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x):
    return list(set('abcdefgh'))
