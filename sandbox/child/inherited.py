"""What a process hands on to those that it starts, put back to what a zygote counts on.

A trainer may run under a supervisor, a shell's `&` or a scheduler that ignores SIGCHLD, blocks
signals or lowers limits. A verdict must depend on none of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

STACK_BYTES = 8 << 20
_ADDR_NO_RANDOMIZE = 0x0040000
_PYTHONS = (signal.SIGPIPE, signal.SIGXFSZ)
"""What the interpreter itself ignores."""


def restore_defaults() -> None:
    """No signal ignored or blocked, and soft limits as high as the hard ones let them be.

    What is too low for a wall is found by the wall itself, which names it.
    """
    _random_addresses()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *_PYTHONS}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in ("AS", "CPU", "DATA", "NOFILE", "NPROC", "RSS"):
        _raise(getattr(resource, f"RLIMIT_{name}", None), None)
    _raise(resource.RLIMIT_STACK, STACK_BYTES)


def _random_addresses() -> None:
    """Start anew where addresses are not random, as under a debugger: `id` must differ."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        now = libc.personality(0xFFFFFFFF)
        if now > 0 and now & _ADDR_NO_RANDOMIZE and libc.personality(now - _ADDR_NO_RANDOMIZE) > 0:
            os.execv(sys.executable, sys.orig_argv)


def _raise(kind: int | None, wanted: int | None) -> None:
    """Soft limit to `wanted`, or as far as the hard one goes; None: to that."""
    if kind is None:
        return
    unlimited = resource.RLIM_INFINITY
    with contextlib.suppress(OSError, ValueError):  # macOS takes no infinite NOFILE
        soft, hard = resource.getrlimit(kind)
        most = hard if wanted is None else wanted if hard == unlimited else min(wanted, hard)
        if soft != unlimited and (most == unlimited or soft < most):
            resource.setrlimit(kind, (most, hard))
