# coroutine
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: UNSUPPORTED
# inputs: ["1"]
async def f(x):
    return 1
