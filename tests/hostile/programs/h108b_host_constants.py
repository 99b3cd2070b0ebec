# locale, folder, host name, cores, arguments: refused or the same everywhere
# class: nondeterminism
# cases: 108
# allowed: OK
# inputs: ["1"]
# deterministic: true
import locale
import os
import sys
import time

def f(x):
    attempts = (
        locale.getlocale, lambda: locale.getpreferredencoding(False), lambda: time.tzname[0],
        os.getcwd, os.getlogin, os.cpu_count, os.getuid, lambda: os.uname().nodename,
        lambda: os.sched_getaffinity(0), lambda: sys.argv, lambda: sys.path,
        lambda: sorted(os.environ), lambda: sys.executable and '/home' in sys.executable,
    )
    got = []
    for attempt in attempts:
        try:
            got.append(repr(attempt()))
        except OSError:
            got.append('refused')
    return got
