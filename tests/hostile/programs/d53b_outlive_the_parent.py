# drops the signal that ends it with its parent
# class: process
# cases: 53 51
# allowed: RAISED
# inputs: ["1"]
import ctypes
import os

def f(x):
    libc = ctypes.CDLL(None)
    # PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER
    if any(libc.prctl(option, 0, 0, 0, 0) != -1 for option in (1, 4, 15, 22, 36)):
        return 'escaped'
    for move in (lambda: os.setpgid(0, 0), lambda: os.setuid(0), lambda: os.chdir('/tmp')):
        try:
            move()
            return 'escaped'
        except PermissionError:
            pass
    raise PermissionError
