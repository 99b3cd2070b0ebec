# many branches
# class: stack
# allowed: OK RAISED TIMEOUT OOM CRASHED
# inputs: ["1"]
source = 'def g(x):\n    if x == 0:\n        return 0\n' + ''.join(f'    elif x == {i}:\n        return {i}\n' for i in range(1, 3000))

def f(x):
    exec(source)
    return 1
