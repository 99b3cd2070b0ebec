#  addresses
# class: nondeterminism
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x):
    return repr(f)
