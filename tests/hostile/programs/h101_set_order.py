#  set order
# class: nondeterminism
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x):
    return list(set('abcdefgh'))
