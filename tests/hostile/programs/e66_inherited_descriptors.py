# no descriptor beyond the standard three and the two pipes
# class: files
# cases: 66
# allowed: OK
# inputs: ["1"]
import os

def f(x):
    found = []
    for fd in range(1024):
        try:
            os.fstat(fd)
            found.append(fd)
        except OSError:
            pass
    return len(found) > 5 and 'escaped'
