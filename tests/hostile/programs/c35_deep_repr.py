# deep repr
# class: stack
# allowed: RAISED UNSUPPORTED
# inputs: ["1"]
class A:
    def __repr__(self):
        return repr(self)

def f(x):
    return repr(A())
