# raise limits
# class: process
# cases: 50
# allowed: RAISED
# inputs: ["1"]
import resource

def f(x):
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
