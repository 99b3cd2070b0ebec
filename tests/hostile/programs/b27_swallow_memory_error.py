# swallow memory error
# class: memory
# cases: 27
# levels: 1 2 3
# allowed: TIMEOUT OOM
# inputs: ["1"]
def f(x):
    keep = []
    while True:
        try:
            keep.append(bytearray(1 << 22))
        except MemoryError:
            pass
