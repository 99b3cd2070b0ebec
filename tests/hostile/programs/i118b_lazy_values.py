# values that are yet to happen
# class: values
# cases: 118
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["0", "1", "2", "3"]
async def later():
    yield 1

def f(x):
    return ((k for k in 'ab'), later(), map(abs, [1]), [zip()])[x]
