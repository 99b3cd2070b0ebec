# raw system calls
# class: files
# cases: 63 95
# allowed: RAISED
# inputs: ["1"]
import ctypes
import sys

# open creat openat openat2 fork vfork clone clone3 execve ptrace mount unshare setns bpf
# keyctl io_uring_setup userfaultfd memfd_create prctl setrlimit prlimit process_vm_readv kcmp ...
X86_64 = (2, 85, 257, 437, 57, 58, 56, 435, 59, 101, 165, 272, 308, 321, 250, 425, 323, 319, 157,
          160, 302, 310, 312, 41, 53, 62, 200, 234, 424, 16, 72, 32, 33, 292, 22, 293, 90, 92, 82,
          87, 83, 84, 86, 88, 133, 155, 161, 29, 30, 240, 64)
AARCH64 = (56, 437, 220, 435, 221, 117, 40, 97, 268, 280, 219, 425, 282, 279, 167, 164, 261, 270,
           272, 198, 199, 129, 130, 131, 424, 29, 25, 23, 24, 59, 52, 53, 54, 276, 35, 34, 33, 36,
           37, 41, 51, 194, 196, 180, 190)

def f(x):
    libc = ctypes.CDLL(None)
    for number in AARCH64 if 'aarch64' in sys.implementation._multiarch else X86_64:
        if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1:
            return f'escaped by {number}'
    raise PermissionError
