# the entry is a partial
# class: forgery
# cases: 90
# levels: 1 2 3
# allowed: OK
# inputs: ["1"]
import functools

f = functools.partial(pow, 2)
