# nested lying str
# class: forgery
# allowed: UNSUPPORTED
# inputs: ["1"]
class A(str):
    def __repr__(self):
        return '666'

def f(x):
    return [{'k': A('x')}]
