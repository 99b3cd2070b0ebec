# change files
# class: files
# cases: 57
# allowed: RAISED
# inputs: ["1"]
import os

def f(x):
    for act in (lambda: os.chmod('/etc/hostname', 0o777), lambda: os.unlink('/nonexistent'),
                lambda: os.rename('/a', '/b'), lambda: os.symlink('/etc', '/tmp/hostile_canary')):
        try:
            act()
        except PermissionError:
            continue
        return 'escaped'
    raise PermissionError
