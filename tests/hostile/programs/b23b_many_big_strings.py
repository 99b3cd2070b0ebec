# many big strings
# class: memory
# cases: 23
# levels: 1 2 3
# allowed: UNSUPPORTED OOM
# inputs: ["1"]
def f(x):
    return ['a' * 60000] * 60000
