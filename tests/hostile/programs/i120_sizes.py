# big and empty containers
# class: values
# cases: 120
# levels: 1 2 3
# allowed: OK UNSUPPORTED
# inputs: ["0", "1", "2"]
def f(x):
    if x == 0:
        return [set(), (), {}, [], '', b'', frozenset(), {(): frozenset()}]
    return {k: k for k in range(5000)} if x == 1 else ['x' * 50] * 5000
