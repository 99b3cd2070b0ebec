# shared memory, message queues, semaphores
# class: files
# cases: 65
# allowed: RAISED
# inputs: ["1"]
import ctypes
import sys

def f(x):
    libc = ctypes.CDLL(None)
    arm = 'aarch64' in sys.implementation._multiarch
    # shmget shmat semget msgget mq_open memfd_create
    numbers = (194, 196, 190, 186, 180, 279) if arm else (29, 30, 64, 68, 240, 319)
    for number in numbers:
        if libc.syscall(number, 0, 4096, 0o1600, 0) != -1:
            return f'escaped by {number}'
    if libc.shm_open(b'/hostile_canary', 0o102, 0o600) >= 0:
        return 'escaped'
    if libc.sem_open(b'/hostile_canary', 0o100, 0o600, 1) != 0:
        return 'escaped'
    raise PermissionError
