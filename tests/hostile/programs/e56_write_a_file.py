# write a file
# class: files
# cases: 56
# allowed: RAISED
# inputs: ["1"]
def f(x):
    open('/tmp/hostile_canary', 'w').write('x')
