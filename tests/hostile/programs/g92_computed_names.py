# computed names
# class: introspection
# cases: 92
# allowed: OK RAISED
# inputs: ["1"]
def f(x):
    return getattr(__import__('o' + 's'), 'sys' + 'tem')('touch /tmp/hostile_canary') == 0 and 'escaped'
