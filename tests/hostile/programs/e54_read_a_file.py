# read a file
# class: files
# cases: 54
# allowed: RAISED
# inputs: ["1"]
def f(x):
    return open('/etc/passwd').read()
