"""The kernel's side of the sandbox, through ctypes: seccomp, timers, rlimits, landlock, namespaces.

Everything is prepared in the zygote (`Walls`), so that a child only makes the system calls.
Linux on x86-64 and aarch64. Every failure is a `MissingPrimitive` that names what was missing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct

PRIMITIVES = (
    "nothing",
    "an x86-64 or aarch64 Linux kernel",
    "PR_SET_PDEATHSIG",
    "PR_SET_NO_NEW_PRIVS",
    "seccomp-BPF",
    "rlimits",
    "CPU-time timers (timer_create)",
    "landlock",
    "namespaces (unshare)",
)
"""What `MissingPrimitive.code` indexes; zygotes report the code over their control pipe."""

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
SECCOMP_MODE_FILTER = 2
SIGKILL = 9
CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID = 1, 2

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

# What a running program may ask of the kernel. No open, socket, clone, fork, exec, kill, ioctl,
# fcntl, prctl, setrlimit: whatever is not here fails with EPERM.
_ALLOWED = {
    "x86_64": {
        "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "munmap": 11, "brk": 12,
        "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24,
        "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60,
        "gettimeofday": 96, "getrusage": 98, "times": 100, "sigaltstack": 131, "gettid": 186,
        "time": 201, "futex": 202, "restart_syscall": 219, "clock_gettime": 228,
        "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "getrandom": 318,
        "rseq": 334,
    },
    "aarch64": {
        "exit": 93, "exit_group": 94, "futex": 98, "nanosleep": 101, "clock_gettime": 113,
        "clock_getres": 114, "clock_nanosleep": 115, "sched_yield": 124, "restart_syscall": 128,
        "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
        "times": 153, "getrusage": 165, "gettimeofday": 169, "getpid": 172, "gettid": 178,
        "brk": 214, "munmap": 215, "mremap": 216, "madvise": 233, "getrandom": 278, "rseq": 293,
        "close": 57, "lseek": 62, "read": 63, "write": 64, "fstat": 80,
    },
}  # fmt: skip
# Allowed without PROT_EXEC only.
_MAPPING = {"x86_64": (9, 10), "aarch64": (222, 226)}  # mmap, mprotect
_TIMER_CREATE = {"x86_64": 222, "aarch64": 107}
_TIMER_SETTIME = {"x86_64": 223, "aarch64": 110}
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same on every arch
_CLONE_NEW = {"ns": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
              "net": 0x40000000}  # fmt: skip


class MissingPrimitive(Exception):
    """The kernel refused something the requested level needs; `code` indexes `PRIMITIVES`."""

    def __init__(self, code: int) -> None:
        super().__init__(PRIMITIVES[code])
        self.code = code


def seccomp_program(machine: str, rearm: bool) -> bytes:
    """The BPF filter as bytes of `struct sock_filter`.

    Unknown architecture or x32 call: the process is killed. On the allowlist: allowed. mmap and
    mprotect: allowed unless they ask for PROT_EXEC. With `rearm`, timer_settime is allowed on the
    timers 0 and 1 (the per-call ones; the job's total budget sits on the timers 2 and 3).
    Anything else: EPERM.
    """
    load, jeq, jge, jset, ret = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, eperm, kill = 0x7FFF0000, 0x00050001, 0x80000000
    code: list[tuple[int, int, int, int]] = []

    def op(opcode: int, k: int, true: int = 0, false: int = 0) -> None:
        code.append((opcode, true, false, k))

    op(load, 4)  # seccomp_data.arch
    op(jeq, _AUDIT_ARCH[machine], 1, 0)
    op(ret, kill)
    op(load, 0)  # seccomp_data.nr
    if machine == "x86_64":
        op(jge, _X32_BIT, 0, 1)
        op(ret, kill)
    for number in _ALLOWED[machine].values():
        op(jeq, number, 0, 1)
        op(ret, allow)
    for number in _MAPPING[machine]:
        op(jeq, number, 0, 4)
        op(load, 16 + 8 * 2)  # low half of the third argument: prot
        op(jset, 4, 0, 1)  # PROT_EXEC
        op(ret, eperm)
        op(ret, allow)
    if rearm:
        op(jeq, _TIMER_SETTIME[machine], 0, 4)
        op(load, 16)  # low half of the first argument: the timer
        op(jge, 2, 0, 1)
        op(ret, eperm)
        op(ret, allow)
    op(ret, eperm)
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


class _Filter:
    """A `struct sock_fprog` ready to hand to prctl."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        self._fprog = ctypes.create_string_buffer(
            struct.pack("@HP", len(program) // 8, ctypes.addressof(self._code))
        )
        self.address = ctypes.addressof(self._fprog)


class Walls:
    """Prepared in the zygote at the requested level; `enter` and `seal` run in each child."""

    def __init__(self, level: int) -> None:
        machine = os.uname().machine
        if machine not in _AUDIT_ARCH or struct.calcsize("P") != 8:
            raise MissingPrimitive(1)
        self.level = level
        self._libc = ctypes.CDLL(None)
        self._prctl = self._libc.prctl
        self._prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        self._syscall = self._libc.syscall
        self._syscall.argtypes = [ctypes.c_long] * 5
        self._syscall.restype = ctypes.c_long
        self._create, self._settime = _TIMER_CREATE[machine], _TIMER_SETTIME[machine]
        # struct sigevent { union sigval; int signo = SIGKILL; int notify = SIGEV_SIGNAL; ... }
        self._event = ctypes.create_string_buffer(struct.pack("@qii48x", 0, SIGKILL, 0))
        self._timer = ctypes.create_string_buffer(8)
        self._spec = ctypes.create_string_buffer(32)
        self._spec_cpu = ctypes.create_string_buffer(32)
        self._spec_wall = ctypes.create_string_buffer(32)
        self._filters = tuple(_Filter(seccomp_program(machine, rearm)) for rearm in (False, True))
        self._prlimit = _PRLIMIT[machine]
        self._rlimit = ctypes.create_string_buffer(16)
        self._rlimit_at = ctypes.addressof(self._rlimit)
        self._base_bytes = 0

    def raise_in_zygote(self) -> None:
        """What children inherit for free: rlimits, no_new_privs, and level 3's extra walls."""
        try:
            for kind, value in (
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_FSIZE, 0),
                (resource.RLIMIT_MEMLOCK, 0),
                (resource.RLIMIT_MSGQUEUE, 0),
                (resource.RLIMIT_NOFILE, 16),
            ):
                resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            raise MissingPrimitive(5) from None
        if self.level >= 3:
            self._namespaces()
        if self._prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise MissingPrimitive(3)
        if self.level >= 3:
            self._landlock()
        self._prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)

    def measure(self) -> None:
        """Remember the zygote's own address space: a program's memory budget comes on top."""
        with open("/proc/self/statm", "rb") as statm:
            self._base_bytes = int(statm.read().split()[0]) * resource.getpagesize()

    def die_with_parent(self, parent: int) -> None:
        """SIGKILL when the parent dies, also when it died before this call."""
        if self._prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
            raise MissingPrimitive(2)
        if os.getppid() != parent:
            os._exit(1)

    def budget(self, cpu_s: float, wall_s: float, memory_mb: int, calls: int) -> bool:
        """Arm the clocks and the memory limit; True when `rearm` has to be called per call.

        A job of one call has one CPU timer and one wall timer, beyond its reach. With more calls
        it has a per-call pair, which the harness (and so the program) can set again, and a total
        pair of `calls` times the budget, which nobody can.
        """
        space = self._base_bytes + (memory_mb << 20)
        cpu = int(cpu_s * calls) + 2
        self._limit(resource.RLIMIT_AS, space)
        self._limit(resource.RLIMIT_CPU, cpu)
        rearm = calls > 1
        if rearm:
            self._spec_cpu.raw = _itimerspec(cpu_s)
            self._spec_wall.raw = _itimerspec(wall_s)
            self._arm(CLOCK_PROCESS_CPUTIME_ID, cpu_s)
            self._arm(CLOCK_MONOTONIC, wall_s)
        self._arm(CLOCK_PROCESS_CPUTIME_ID, cpu_s * calls)
        self._arm(CLOCK_MONOTONIC, wall_s * calls)
        return rearm

    def rearm(self) -> None:
        """Give the next call a fresh budget (timers 0 and 1)."""
        self._syscall(self._settime, 0, 0, ctypes.addressof(self._spec_cpu), 0)
        self._syscall(self._settime, 1, 0, ctypes.addressof(self._spec_wall), 0)

    def seal(self, rearm: bool) -> None:
        """Install the seccomp filter (levels 2 and 3)."""
        if self.level < 2:
            return
        address = self._filters[rearm].address
        if self._prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, address, 0, 0) != 0:
            raise MissingPrimitive(4)

    def _limit(self, kind: int, value: int) -> None:
        """setrlimit without the `resource` module, whose pages each child would fault in."""
        struct.pack_into("@QQ", self._rlimit, 0, value, value)
        if self._syscall(self._prlimit, 0, kind, self._rlimit_at, 0) != 0:
            raise MissingPrimitive(5)

    def _arm(self, clock: int, seconds: float) -> None:
        event, timer = ctypes.addressof(self._event), ctypes.addressof(self._timer)
        if self._syscall(self._create, clock, event, timer, 0) != 0:
            raise MissingPrimitive(6)
        self._spec.raw = _itimerspec(seconds)
        (number,) = struct.unpack_from("@i", self._timer)
        if self._syscall(self._settime, number, 0, ctypes.addressof(self._spec), 0) != 0:
            raise MissingPrimitive(6)

    def _namespaces(self) -> None:
        """No network, no shared IPC. As root directly, else through a user namespace."""
        flags = _CLONE_NEW["ns"] | _CLONE_NEW["uts"] | _CLONE_NEW["ipc"] | _CLONE_NEW["net"]
        if self._libc.unshare(flags) != 0 and self._libc.unshare(flags | _CLONE_NEW["user"]) != 0:
            raise MissingPrimitive(8)

    def _landlock(self) -> None:
        """A ruleset that handles every access right this kernel knows and allows none."""
        abi = self._syscall(_LANDLOCK[0], 0, 0, 1, 0)
        if abi < 1:
            raise MissingPrimitive(7)
        rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
        network = 3 if abi >= 4 else 0
        attributes = ctypes.create_string_buffer(struct.pack("<QQ", (1 << rights) - 1, network))
        size = 16 if abi >= 4 else 8
        ruleset = self._syscall(_LANDLOCK[0], ctypes.addressof(attributes), size, 0, 0)
        if ruleset < 0:
            raise MissingPrimitive(7)
        if self._syscall(_LANDLOCK[2], ruleset, 0, 0, 0) != 0:
            raise MissingPrimitive(7)
        os.close(ruleset)


def _itimerspec(seconds: float) -> bytes:
    nanoseconds = max(1, int(seconds * 1e9))
    return struct.pack("@qqqq", 0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
