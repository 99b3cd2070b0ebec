# lying metaclass
# class: forgery
# cases: 79
# levels: 1 2 3
# allowed: UNSUPPORTED RAISED
# inputs: ["1"]
class M(type):
    def __instancecheck__(cls, other):
        return True
    def __eq__(cls, other):
        return True
    def __hash__(cls):
        return hash(int)
    __name__ = property(lambda cls: 1 / 0)

class A(metaclass=M):
    __class__ = int

def f(x):
    return A()
