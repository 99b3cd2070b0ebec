# keys that are equal but different, and values that have no hash
# class: values
# cases: 117
# levels: 1 2 3
# allowed: OK RAISED
# inputs: ["0", "1", "2"]
def f(x):
    if x == 0:
        return {1: 'int', True: 'bool', 1.0: 'float', '1': 'str', (1,): 'tuple'}
    return {[]: 1} if x == 1 else {frozenset({1}), (1, []) and 1}
