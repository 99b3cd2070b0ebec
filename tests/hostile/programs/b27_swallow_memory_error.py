# swallow memory error
# class: memory
# allowed: TIMEOUT OOM
# inputs: ["1"]
def f(x):
    keep = []
    while True:
        try:
            keep.append(bytearray(1 << 22))
        except MemoryError:
            pass
