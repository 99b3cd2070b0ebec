# bytearrays forever
# class: memory
# cases: 21
# levels: 1 2 3
# allowed: OOM TIMEOUT RAISED
# inputs: ["1"]
def f(x):
    keep = []
    while True:
        keep.append(bytearray(1 << 20))
