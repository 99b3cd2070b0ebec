# minus signs
# class: stack
# allowed: RAISED CRASHED OOM
# inputs: ["1"]
def f(x):
    return compile('-' * 200000 + '1', 'x', 'eval')
