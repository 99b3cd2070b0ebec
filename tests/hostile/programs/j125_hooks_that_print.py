# the fault handler and the exception hook write where they like
# class: output
# cases: 125
# levels: 1 2 3
# allowed: RAISED PROTOCOL CRASHED
# inputs: ["1"]
import sys

def f(x):
    sys.excepthook = lambda *a: print('escaped')
    sys.unraisablehook = lambda *a: print('escaped')
    try:
        import faulthandler
        for fd in range(1, 8):
            faulthandler.enable(file=fd)
            faulthandler.dump_traceback(file=fd)
    except Exception:
        pass
    raise ValueError('after all')
