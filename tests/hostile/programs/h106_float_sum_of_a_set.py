# a sum whose value depends on the order of a set of texts
# class: nondeterminism
# cases: 106
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
def f(x):
    total = 0.0
    for text in {f'{1 + 10.0 ** (k % 9)!r}{k:03}' for k in range(200)}:
        total = total * 1.0000001 + float(text)
    return total
