# subclasses
# class: introspection
# cases: 91
# allowed: OK RAISED
# inputs: ["1"]
def f(x):
    for c in ().__class__.__base__.__subclasses__():
        if c.__name__ == 'Popen':
            c(['touch', '/tmp/hostile_canary'])
    return 1
