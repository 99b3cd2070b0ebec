# many branches
# class: stack
# cases: 40
# levels: 1 2 3
# allowed: OK RAISED TIMEOUT OOM CRASHED
# inputs: ["3000", "100000"]
def f(n):
    head = 'def g(x):\n    if x == 0:\n        return 0\n'
    exec(head + ''.join(f'    elif x == {i}:\n        return {i}\n' for i in range(1, n)))
    return 1
