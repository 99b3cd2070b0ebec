# nested lying str
# class: forgery
# cases: 77
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
class A(str):
    def __repr__(self):
        return '666'

def f(x):
    return [{'k': A('x')}]
