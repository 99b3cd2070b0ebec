#  many big strings
# class: memory
# allowed: UNSUPPORTED OOM
# inputs: ["1"]
def f(x):
    return ['a' * 60000] * 60000
