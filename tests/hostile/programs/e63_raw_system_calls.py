# raw system calls
# class: files
# allowed: RAISED
# inputs: ["1"]
import ctypes

def f(x):
    libc = ctypes.CDLL(None)
    # open creat openat openat2 fork vfork clone clone3 execve ptrace mount unshare setns bpf
    # keyctl io_uring_setup userfaultfd memfd_create prctl setrlimit prlimit process_vm_readv kcmp
    for number in (2, 85, 257, 437, 57, 58, 56, 435, 59, 101, 165, 272, 308, 321, 250, 425, 323,
                   319, 157, 160, 302, 310, 312, 41, 53, 62, 200, 234, 424, 16, 72, 32, 33, 292, 22,
                   293, 90, 92, 82, 87, 83, 84, 86, 88, 133, 155, 161, 29, 30, 240, 64):
        if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1:
            return f'escaped by {number}'
    raise PermissionError
