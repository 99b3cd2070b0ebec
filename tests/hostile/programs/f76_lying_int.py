# lying int
# class: forgery
# cases: 76
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
class A(int):
    def __eq__(self, other):
        return True
    def __hash__(self):
        return 0
    def __repr__(self):
        return '666'

def f(x):
    return A(1)
