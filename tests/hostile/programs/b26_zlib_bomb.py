# zlib bomb
# class: memory
# cases: 26
# levels: 1 2 3
# allowed: OOM TIMEOUT
# inputs: ["1"]
import zlib

def f(x):
    c = zlib.compressobj(9)
    parts = [c.compress(b'0' * (1 << 20)) for _ in range(16)]
    data = b''.join(parts) + c.flush()
    for _ in range(30):
        data = zlib.decompress(data) * 64
        data = zlib.compress(data)
    return len(data)
