#  coroutine
# class: forgery
# allowed: UNSUPPORTED
# inputs: ["1"]
async def f(x):
    return 1
