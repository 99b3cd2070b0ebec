# bad bytecode
# class: stack
# cases: 37
# levels: 1 2 3
# allowed: CRASHED RAISED TIMEOUT OOM UNSUPPORTED
# inputs: ["1"]
def f(x):
    code = f.__code__.replace(co_code=bytes([100, 255] * 50))
    exec(code)
