# what the interpreter counts
# class: nondeterminism
# cases: 105
# levels: 1 2 3
# allowed: OK NONDETERMINISTIC
# inputs: ["0", "1", "2"]
# deterministic: true
import gc
import sys
import weakref

def f(x):
    if x == 0:
        return [sys.getrefcount(None), sys.getrefcount(0), len(gc.get_objects())]
    if x == 1:
        return [gc.collect(), gc.get_count(), gc.get_stats()]
    class A:
        pass
    a = A()
    a.me = a
    ref = weakref.ref(a)
    del a
    before = ref() is None
    gc.collect()
    return [before, ref() is None]
