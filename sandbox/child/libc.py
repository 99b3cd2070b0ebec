"""What a zygote does by the C library itself, since each page that is touched costs a fork dearly.

`os.fork` and `os.wait4` prepare for threads that are not there and build objects; together some
forty pages a program, which parent and child then have to copy. Linux only; see `by_os` for others.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from itertools import islice

REPORT = struct.Struct("<i12xqqqqq104x")
"""A child's end: wait status, then the head of `struct rusage` (user s, us, system s, us, KiB)."""

Wait = Callable[[int], int]
Tell = Callable[[int], object]

_READ, _WRITE, _EXEC, _PRIVATE_ANONYMOUS = 1, 2, 4, 0x22
_HUGE, _MADV_HUGEPAGE, _MOVE_TO = 2 << 20, 14, 3


def by_libc() -> tuple[Callable[[], int], Wait, Tell]:
    """fork; wait for a child (its wait status); write the last child's `REPORT` to a descriptor."""
    libc = ctypes.PyDLL(None)  # keeps the interpreter's lock: a child has the one thread it needs
    message = ctypes.create_string_buffer(REPORT.size)
    status = ctypes.c_int.from_buffer(message)
    head, usage, size = ctypes.byref(message), ctypes.byref(message, 16), REPORT.size
    wait4, write = libc.wait4, libc.write

    def wait(pid: int) -> int:
        wait4(pid, head, 0, usage)
        return status.value

    return libc.fork, wait, lambda fd: write(fd, head, size)


def by_os() -> tuple[Callable[[], int], Wait, Tell]:
    """The same as `by_libc`, on any system."""
    report = b""

    def wait(pid: int) -> int:
        nonlocal report
        _, status, usage = os.wait4(pid, 0)
        times = [int(1e6 * t) for t in (usage.ru_utime, usage.ru_stime)]
        report = REPORT.pack(status, 0, times[0], 0, times[1], usage.ru_maxrss)
        return status

    return os.fork, wait, lambda fd: os.write(fd, report)


def interpreter_in_huge_pages() -> None:
    """Move the interpreter's code and constants to huge pages, where the kernel grants them.

    A child then finds them mapped, instead of taking some forty page faults on them. Nothing is
    lost where that fails; what is not writable stays so.
    """
    libc = ctypes.PyDLL(None)
    address, number = ctypes.c_size_t, ctypes.c_int
    for name, result, *arguments in (
        ("mmap", address, address, address, number, number, number, ctypes.c_long),
        ("mremap", address, address, address, address, number, address),
        ("madvise", number, address, address, number),
        ("mprotect", number, address, address, number),
        ("munmap", number, address, address),
    ):
        function = getattr(libc, name)
        function.restype, function.argtypes = result, arguments
    for at in _whole_blocks():
        area = libc.mmap(0, 2 * _HUGE, _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, 0)
        if area == address(-1).value:
            return
        block = -(-area // _HUGE) * _HUGE
        for start, end in (area, block), (block + _HUGE, area + 2 * _HUGE):
            if start < end:
                libc.munmap(start, end - start)
        libc.madvise(block, _HUGE, _MADV_HUGEPAGE)
        ctypes.memmove(block, at, _HUGE)
        ready = _is_huge(block) and libc.mprotect(block, _HUGE, _READ | _EXEC) == 0
        if not ready or libc.mremap(block, _HUGE, _HUGE, _MOVE_TO, at) != at:
            libc.munmap(block, _HUGE)
            return


def _whole_blocks() -> list[int]:
    """Where the interpreter's read-only mappings fill a huge page."""
    inside = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value or 0
    spans: list[tuple[int, int, str]] = []
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    for line in lines:
        span, rights, _, _, _, *path = line.split(maxsplit=5)
        low, high = (int(end, 16) for end in span.split("-"))
        if path and rights[:2] == "r-":
            if spans and spans[-1][1:] == (low, path[0]):
                low = spans.pop()[0]
            spans.append((low, high, path[0]))
    for low, high, _ in spans:
        if low <= inside < high:
            return list(range(-(-low // _HUGE) * _HUGE, high - _HUGE + 1, _HUGE))
    return []


def _is_huge(block: int) -> bool:
    """Whether the kernel has one page for all of it."""
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            if line.startswith(f"{block:x}-"):
                break
        return any(
            line.startswith("AnonHugePages:") and line.split()[1] == "2048"
            for line in islice(smaps, 22)
        )
