# mutable default
# class: forgery
# cases: 88
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x, seen=[]):
    seen.append(x)
    return len(seen)
