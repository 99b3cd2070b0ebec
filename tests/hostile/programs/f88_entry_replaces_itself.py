# entry replaces itself
# class: forgery
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x):
    global f
    f = lambda x: 2
    globals()['n'] = globals().get('n', 0) + 1
    return n
