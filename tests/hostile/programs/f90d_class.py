# the entry is a class
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
class f:
    def __init__(self, x):
        self.x = x
