# a class hook and an import hook that never end
# class: cpu
# cases: 14
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["0", "1"]
import sys

def spin(*names, **more):
    while True:
        pass

class Base:
    __init_subclass__ = spin

class Finder:
    find_spec = spin

def f(x):
    if x == 0:
        class Derived(Base):
            pass
    sys.meta_path.insert(0, Finder())
    import no_such_module
