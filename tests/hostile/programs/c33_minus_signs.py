# minus signs
# class: stack
# cases: 33
# levels: 1 2 3
# allowed: RAISED CRASHED OOM
# inputs: ["1"]
def f(x):
    return compile('-' * 200000 + '1', 'x', 'eval')
