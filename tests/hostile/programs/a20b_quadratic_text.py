# text that is copied at every step
# class: cpu
# cases: 20
# levels: 1 2 3
# allowed: TIMEOUT OOM
# inputs: ["1"]
def f(x):
    s = ''
    while True:
        s = 'ab' + s
