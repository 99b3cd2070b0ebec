# exceptions that are no `Exception`
# class: forgery
# cases: 80
# levels: 1 2 3
# allowed: RAISED
# inputs: ["0", "1", "2"]
class Odd(BaseException):
    pass

def f(x):
    raise (GeneratorExit, Odd, SystemExit('0'))[x]
