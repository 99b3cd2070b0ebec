# environment
# class: files
# cases: 58
# allowed: OK RAISED
# inputs: ["1"]
import os

def f(x):
    return sorted(k for k in os.environ if k not in ('PYTHONHASHSEED', 'LC_ALL', 'LD_BIND_NOW', 'TZ', 'LC_CTYPE')) and 'escaped'
