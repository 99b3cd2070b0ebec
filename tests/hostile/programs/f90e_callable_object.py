# the entry is an object that can be called
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
class Caller:
    def __call__(self, x):
        return x

f = Caller()
