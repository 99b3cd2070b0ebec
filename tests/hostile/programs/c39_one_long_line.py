# a source line of a megabyte: flat, and nested
# class: stack
# cases: 39
# levels: 1 2 3
# allowed: OK RAISED TIMEOUT OOM CRASHED
# inputs: ["0", "1"]
def f(x):
    source = '1' + '+1' * 500000 if x else '[' + '1,' * 500000 + ']'
    return len(str(eval(source))) > 0
