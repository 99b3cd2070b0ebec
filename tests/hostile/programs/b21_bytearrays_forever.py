# bytearrays forever
# class: memory
# allowed: OOM TIMEOUT RAISED
# inputs: ["1"]
def f(x):
    keep = []
    while True:
        keep.append(bytearray(1 << 20))
