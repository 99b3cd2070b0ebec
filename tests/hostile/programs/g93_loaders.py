# loaders
# class: introspection
# cases: 93
# allowed: RAISED
# inputs: ["1"]
def f(x):
    import importlib.machinery
    return importlib.machinery.SourceFileLoader('x', '/usr/lib/python3/dist-packages/x.py').load_module()
