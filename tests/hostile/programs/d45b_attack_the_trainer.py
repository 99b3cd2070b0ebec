# signals, ptrace, memory and limits of the process that owns the sandbox
# class: process
# cases: 45 48 50 59
# allowed: RAISED
# inputs: ["$PID"]
import ctypes
import os
import resource

def f(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(64)
    attempts = (
        lambda: os.kill(pid, 9),
        lambda: os.pidfd_open(pid),
        lambda: open(f'/proc/{pid}/mem', 'rb').read(1),
        lambda: open(f'/proc/{pid}/environ', 'rb').read(),
        lambda: os.readlink(f'/proc/{pid}/exe'),
        lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)),
        lambda: os.sched_setaffinity(pid, [0]),
        lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        lambda: libc.ptrace(16, pid, 0, 0) == 0 or refused(),
        lambda: libc.process_vm_readv(pid, buffer, 1, buffer, 1, 0) >= 0 or refused(),
    )
    for number, attempt in enumerate(attempts):
        try:
            attempt()
            return f'escaped by {number}'
        except OSError:
            continue
    raise PermissionError

def refused():
    raise PermissionError
