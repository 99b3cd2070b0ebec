# entry replaces itself
# class: forgery
# cases: 88
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x):
    global f
    f = lambda x: 2
    globals()['n'] = globals().get('n', 0) + 1
    return n
