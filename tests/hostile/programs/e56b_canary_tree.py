# every way to leave a file in a folder that anyone may write
# class: files
# cases: 56 57
# allowed: RAISED
# inputs: ["'$TREE'"]
import os

def f(tree):
    attempts = (
        lambda: open(tree + '/hostile_canary', 'w'),
        lambda: os.open(tree, os.O_TMPFILE | os.O_RDWR),
        lambda: os.mkdir(tree + '/hostile_canary'),
        lambda: os.mkfifo(tree + '/hostile_canary'),
        lambda: os.symlink('/', tree + '/hostile_canary'),
        lambda: os.link('/etc/hostname', tree + '/hostile_canary'),
        lambda: os.truncate(tree + '/bait', 0),
        lambda: os.unlink(tree + '/bait'),
        lambda: os.utime(tree + '/bait'),
        lambda: os.chmod(tree, 0),
        lambda: os.listdir(tree),
        lambda: open(tree + '/bait').read(),
    )
    for number, attempt in enumerate(attempts):
        try:
            attempt()
            return f'escaped by {number}'
        except OSError:
            continue
    raise PermissionError
