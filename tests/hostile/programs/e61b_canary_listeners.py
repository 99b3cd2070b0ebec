# listeners that wait on this very host
# class: files
# cases: 61 62
# allowed: RAISED
# inputs: ["$PORT, '$NAME'"]
import ctypes

def f(port, name):
    libc = ctypes.CDLL(None)
    there = b'\x02\x00' + port.to_bytes(2, 'big') + bytes([127, 0, 0, 1]) + bytes(8)
    names = (b'\x01\x00\x00' + name.encode(), b'\x01\x00/var/run/docker.sock\x00')
    for family, address in ((2, there), (1, names[0]), (1, names[1])):
        for kind in (1, 2, 3, 5):
            fd = libc.socket(family, kind, 0)
            if fd >= 0:
                libc.connect(fd, address, len(address))
                return 'escaped'
        for fd in range(16):
            if libc.connect(fd, address, len(address)) == 0:
                return 'escaped'
    if libc.socketpair(1, 1, 0, ctypes.create_string_buffer(8)) == 0:
        return 'escaped'
    raise PermissionError
