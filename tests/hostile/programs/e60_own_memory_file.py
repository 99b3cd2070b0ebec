# own memory file
# class: files
# cases: 60
# allowed: RAISED
# inputs: ["1"]
def f(x):
    open('/proc/self/mem', 'r+b').write(b'x')
