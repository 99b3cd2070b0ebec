# deep repr
# class: stack
# cases: 35
# levels: 1 2 3
# allowed: RAISED UNSUPPORTED
# inputs: ["1"]
class A:
    def __repr__(self):
        return repr(self)

def f(x):
    return repr(A())
