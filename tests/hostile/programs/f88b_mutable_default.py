#  mutable default
# class: forgery
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x, seen=[]):
    seen.append(x)
    return len(seen)
