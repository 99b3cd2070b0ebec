# order by address, in a set and in a sort
# class: nondeterminism
# cases: 103
# levels: 1 2 3
# allowed: NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
class A:
    pass

def f(x):
    things = [A() for _ in range(3000)]
    places = {id(a): i for i, a in enumerate(things)}
    return [places[id(a)] for a in set(things)]
