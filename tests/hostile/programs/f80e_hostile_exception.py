# hostile exception
# class: forgery
# cases: 80
# levels: 1 2 3
# allowed: RAISED
# inputs: ["1"]
class A(Exception):
    def __str__(self):
        raise SystemExit
    __repr__ = __str__

def f(x):
    raise A
