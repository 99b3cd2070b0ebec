"""The kernel's side of the sandbox, through ctypes: seccomp, timers, rlimits, landlock, namespaces.

Everything is prepared in the zygote (`Walls`), so that a child only makes the system calls.
Linux on x86-64 and aarch64. Every failure is a `MissingPrimitive` that names what was missing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from time import monotonic
from typing import Any

PRIMITIVES = (
    "nothing",
    "an x86-64 or aarch64 Linux kernel",
    "PR_SET_PDEATHSIG",
    "PR_SET_NO_NEW_PRIVS",
    "seccomp-BPF",
    "rlimits (or one that was inherited is too low: ulimit -H -a shows them)",
    "CPU-time timers (timer_create)",
    "landlock",
    "namespaces (unshare)",
)
"""What `MissingPrimitive.code` indexes; zygotes report the code over their control pipe."""

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
SECCOMP_MODE_FILTER = 2
RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_CORE, RLIMIT_NOFILE = 0, 1, 4, 7
RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_MSGQUEUE = 8, 9, 12
RLIM_INFINITY = 2**64 - 1
SIGKILL = 9
CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID = 1, 2
SLACK = 0.01
"""Clocks are not set anew where the calls before have taken less than this part of a budget; for
that a call has this much more."""

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
_PRCTL = {"x86_64": 157, "aarch64": 167}
_LANDLOCK = (444, 445, 446)  # create_ruleset, add_rule, restrict_self: the same on every arch
_CLONE_NEW = {"ns": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
              "net": 0x40000000}  # fmt: skip


Budget = tuple[float, float, int]
"""CPU seconds and wall seconds of a call, and MiB of memory on top of the interpreter's own."""


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

    A binary search over the call numbers: the kernel runs a filter once for every number there is
    when a child installs it, and a linear list would cost each program more than its own work.
    """
    load, jeq, jge, jset, ret = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, eperm, kill = 0x7FFF0000, 0x00050001, 0x80000000
    Code = list[tuple[int, int, int, int]]
    allowed: Code = [(ret, 0, 0, allow)]
    denied: Code = [(ret, 0, 0, eperm)]
    # The low halves of the third argument (prot: PROT_EXEC) and of the first (the timer).
    mapping: Code = [(load, 0, 0, 16 + 8 * 2), (jset, 0, 1, 4), *denied, *allowed]
    settime: Code = [(load, 0, 0, 16), (jge, 0, 1, 2), *denied, *allowed]

    answers = dict.fromkeys(_ALLOWED[machine].values(), allowed)
    answers.update(dict.fromkeys(_MAPPING[machine], mapping))
    if rearm:
        answers[_TIMER_SETTIME[machine]] = settime
    ranges: list[tuple[int, Code]] = []  # (first number, answer), up to the next range's
    for number in range(max(answers) + 2):
        answer = answers.get(number, denied)
        if not ranges or ranges[-1][1] is not answer:
            ranges.append((number, answer))

    def search(ranges: list[tuple[int, Code]]) -> Code:
        if len(ranges) == 1:
            return ranges[0][1]
        middle = len(ranges) // 2
        below, above = search(ranges[:middle]), search(ranges[middle:])
        return [(jge, len(below), 0, ranges[middle][0]), *below, *above]

    code: Code = [(load, 0, 0, 4), (jeq, 1, 0, _AUDIT_ARCH[machine]), (ret, 0, 0, kill)]
    code += [(load, 0, 0, 0)]
    if machine == "x86_64":
        code += [(jge, 0, 1, _X32_BIT), (ret, 0, 0, kill)]
    code += search(ranges)
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


class _Filter:
    """A `struct sock_fprog` ready to hand to prctl."""

    def __init__(self, program: bytes) -> None:
        self._code = ctypes.create_string_buffer(program, len(program))
        self.pointer = _pointer(struct.pack("@HP", len(program) // 8, ctypes.addressof(self._code)))


_Call = tuple[Any, Any, Any, Any, Any, Any]
"""A system call: its number and five arguments, which are 31-bit integers or made by
`ctypes.byref`: those ctypes passes on as they are. Every call made here returns 0 when all is
well."""


class Walls:
    """Prepared in the zygote at the requested level; `enter` runs in each child.

    The calls that a child makes are laid out beforehand, as plain tuples: each page that a child
    has to touch first costs as much as ten system calls.
    """

    def __init__(self, level: int, usual: Budget) -> None:
        machine = os.uname().machine
        if machine not in _AUDIT_ARCH or struct.calcsize("P") != 8:
            raise MissingPrimitive(1)
        self.level = level
        self.usual = usual
        self._libc = ctypes.CDLL(None)
        self._syscall = self._libc.syscall
        self._create, self._settime = _TIMER_CREATE[machine], _TIMER_SETTIME[machine]
        self._prlimit, self._prctl = _PRLIMIT[machine], _PRCTL[machine]
        # struct sigevent { union sigval; int signo = SIGKILL; int notify = SIGEV_SIGNAL; ... }
        self._event = _pointer(struct.pack("@qii48x", 0, SIGKILL, 0))
        self._timer = _pointer(bytes(8))
        self._filters = tuple(_Filter(seccomp_program(machine, rearm)) for rearm in (False, True))
        self._die_with_parent: _Call = (self._prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        self._specs: dict[float, Any] = {}
        self._base_bytes = 0
        self._armed = 0.0
        nothing: _Call = (self._prlimit, 0, RLIMIT_AS, 0, 0, 0)
        # By number of calls; harmless, for rehearsals, until `raise_in_zygote`.
        self._plans: dict[int, tuple[_Call, ...]] = {1: (nothing,) * 5, 2: (nothing,) * 9}

    def raise_in_zygote(self) -> None:
        """What children inherit for free: rlimits, no_new_privs, and level 3's extra walls."""
        with open("/proc/self/statm", "rb") as statm:
            self._base_bytes = int(statm.read().split()[0]) * os.sysconf("SC_PAGESIZE")
        for kind, value in (
            (RLIMIT_CORE, 0),
            (RLIMIT_FSIZE, 0),
            (RLIMIT_MEMLOCK, 0),
            (RLIMIT_MSGQUEUE, 0),
            (RLIMIT_NOFILE, 16),
        ):
            self._make(5, self._limit(kind, value, value))
        if self.level >= 3:
            self._namespaces()
        if self._syscall(self._prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 and self.level >= 2:
            raise MissingPrimitive(3)  # below, a courtesy: no filter needs it
        if self.level >= 3:
            self._landlock()
        self._make(3, (self._prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        self._make(3, (self._prctl, PR_SET_DUMPABLE, 0, 0, 0, 0))
        # A program's memory comes on top of the zygote's own. Only the soft limit is set here, so
        # that a job may have more; from level 2 on no program can call setrlimit.
        space = self._base_bytes + (self.usual[2] << 20)
        if self._syscall(*self._limit(RLIMIT_AS, space, RLIM_INFINITY)) != 0:
            try:  # no root: it can only be kept
                _, inherited = resource.getrlimit(resource.RLIMIT_AS)
            except OSError:
                raise MissingPrimitive(5) from None
            self._make(5, self._limit(RLIMIT_AS, space, max(space, inherited)))
        self._plans = {calls: self._plan(self.usual, calls) for calls in range(1, 33)}

    def die_with_parent(self, parent: int) -> None:
        """SIGKILL when the parent dies, also when it died before this call."""
        if self._syscall(*self._die_with_parent) != 0:
            raise MissingPrimitive(2)
        if os.getppid() != parent:
            os._exit(1)

    def enter(self, budget: Budget, calls: int) -> None:
        """Arm the clocks and the memory limit, and from level 2 on close the filter behind them.

        A job of one call has one CPU timer and one wall timer, beyond its reach. With more calls
        it has a per-call pair, which the harness (and so the program) can set again by `rearm`,
        and a total pair of `calls` times the budget, which nobody can.
        """
        if calls > 1:
            self._armed = monotonic()
        plan = self._plans.get(calls) if budget == self.usual else None
        syscall = self._syscall
        for call in plan or self._plan(budget, calls):
            if syscall(*call) != 0:
                raise MissingPrimitive({self._prlimit: 5, self._prctl: 4}.get(call[0], 6))

    def rearm(self, budget: Budget) -> None:
        """Give the next call a fresh budget (timers 0 and 1)."""
        cpu_s, wall_s, _ = budget
        now = monotonic()
        if now - self._armed < SLACK * cpu_s:
            return
        self._armed = now
        self._syscall(self._settime, 0, 0, self._spec(cpu_s * (1 + SLACK)), 0, 0)
        self._syscall(self._settime, 1, 0, self._spec(wall_s * (1 + SLACK)), 0, 0)

    def _plan(self, budget: Budget, calls: int) -> tuple[_Call, ...]:
        cpu_s, wall_s, memory_mb = budget
        made: list[_Call] = []
        if self.level < 2 or memory_mb != self.usual[2]:
            space = self._base_bytes + (memory_mb << 20)
            made.append(self._limit(RLIMIT_AS, space, space))
        if self.level < 2:  # where a program could delete its timers
            whole = int(cpu_s * (calls + SLACK)) + 1
            made.append(self._limit(RLIMIT_CPU, whole, whole))
        number = 0  # a new process counts its timers from here
        for times in (1,) if calls == 1 else (1 + SLACK, calls + SLACK):
            for clock, seconds in (CLOCK_PROCESS_CPUTIME_ID, cpu_s), (CLOCK_MONOTONIC, wall_s):
                made.append((self._create, clock, self._event, self._timer, 0, 0))
                made.append((self._settime, number, 0, self._spec(seconds * times), 0, 0))
                number += 1
        if self.level >= 2:
            filter = self._filters[calls > 1].pointer
            made.append((self._prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0))
        return tuple(made)

    def _limit(self, kind: int, soft: int, hard: int) -> _Call:
        return self._prlimit, 0, kind, _pointer(struct.pack("@QQ", soft, hard)), 0, 0

    def _spec(self, seconds: float) -> Any:
        """A pointer to a `struct itimerspec` for this time."""
        known = self._specs.get(seconds)
        if known is None:
            nanoseconds = max(1, int(seconds * 1e9))
            parts = 0, 0, nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000
            known = self._specs[seconds] = _pointer(struct.pack("@qqqq", *parts))
        return known

    def _make(self, primitive: int, call: _Call) -> None:
        if self._syscall(*call) != 0:
            raise MissingPrimitive(primitive)

    def _namespaces(self) -> None:
        """No network, no shared IPC. As root directly, else through a user namespace."""
        flags = _CLONE_NEW["ns"] | _CLONE_NEW["uts"] | _CLONE_NEW["ipc"] | _CLONE_NEW["net"]
        if self._libc.unshare(flags) != 0 and self._libc.unshare(flags | _CLONE_NEW["user"]) != 0:
            raise MissingPrimitive(8)

    def _landlock(self) -> None:
        """A ruleset that handles every access right this kernel knows and allows none."""
        abi = self._syscall(_LANDLOCK[0], 0, 0, 1, 0, 0)
        if abi < 1:
            raise MissingPrimitive(7)
        rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
        network = 3 if abi >= 4 else 0
        attributes = _pointer(struct.pack("<QQ", (1 << rights) - 1, network))
        size = 16 if abi >= 4 else 8
        ruleset = self._syscall(_LANDLOCK[0], attributes, size, 0, 0, 0)
        if ruleset < 0:
            raise MissingPrimitive(7)
        if self._syscall(_LANDLOCK[2], ruleset, 0, 0, 0, 0) != 0:
            raise MissingPrimitive(7)
        os.close(ruleset)


def _pointer(data: bytes) -> Any:
    """A pointer to a private copy of these bytes, as an argument for ctypes."""
    return ctypes.byref(ctypes.create_string_buffer(data, len(data)))
