# read a file
# class: files
# allowed: RAISED
# inputs: ["1"]
def f(x):
    return open('/etc/passwd').read()
