"""Start-up canaries: a level is believed only after it has been seen to hold. Fails closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.child.kernel import PRIMITIVES
from sandbox.jobs import Job, Limits, Outcome, SandboxUnavailable, Status

if TYPE_CHECKING:
    from sandbox.box import Sandbox

_KERNEL = '''
import os, sys
def f(pid):
    """What each attempt got: the name of an exception, or "open" where a wall is missing."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    tries = {
        "open a file": lambda: os.open("/proc/self/status", os.O_RDONLY),
        "write a file": lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR),
        "list a folder": lambda: os.listdir("/"),
        "open a socket": lambda: libc.socket(2, 1, 0) + 1 or blocked(),
        "fork": lambda: os.fork() or os._exit(0),
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "ptrace": lambda: libc.ptrace(16, os.getppid(), 0, 0) + 1 or blocked(),
    }
    got = {}
    for name, attempt in tries.items():
        try:
            attempt()
            got[name] = "open"
        except OSError as error:
            got[name] = type(error).__name__
    return got
def blocked():
    raise PermissionError
'''
_LOOP = """
def f():
    while True:
        try:
            pass
        except BaseException:
            pass
"""
_BOMB = "def f():\n    x = []\n    while True:\n        x.append(bytearray(1 << 22))"
_FORGER = """
import os
def f():
    for fd in range(3, 64):
        try:
            os.write(fd, b"\\x01" + bytes(4) + b"\\x02\\x00\\x00\\x0042")
        except OSError:
            pass
    return 1
"""
_LIMITS = Limits(cpu_s=0.1, wall_s=60.0, memory_mb=64)
_ADVICE = (
    "Isolation level {level} is not to be had here: {reason}. "
    "Run on Linux (x86-64 or aarch64) where it is allowed"
)
_LOWER = (
    ", or accept a lower level explicitly: Sandbox(level={lower}), make train "
    "SANDBOX_LEVEL={lower}. Level 1 puts no wall between programs and your files and network"
)
_NEEDED_FROM = {PRIMITIVES[3]: 2, PRIMITIVES[4]: 2, PRIMITIVES[7]: 3, PRIMITIVES[8]: 3}
"""The level from which on a primitive is needed; the others: always."""
_passed: set[int] = set()


def report(box: Sandbox) -> dict[str, str]:
    """What each canary got; "ok" where the wall holds, in lean zygotes and in full ones."""
    jobs = [
        Job("import math\ndef f(a, b): return [math.gcd(a, b), a / b]", ("12, 8",)),
        Job(_LOOP, ("",), limits=_LIMITS),
        Job(_BOMB, ("",), limits=_LIMITS),
        Job(_FORGER, ("",), limits=_LIMITS),
        *([Job(_KERNEL, ("1",))] if box.level >= 2 else []),
    ]
    kinds = [[box.submit_to(job, lean) for job in jobs] for lean in (True, False)]
    found: dict[str, str] = {}
    for futures in kinds:
        for name, got in _read([future.result() for future in futures], box.refusal).items():
            if found.get(name, "ok") == "ok":
                found[name] = got
    return found


def _read(outcomes: list[Outcome], refusal: str) -> dict[str, str]:
    good, loop, bomb, forger, *walls = outcomes
    if good.status is Status.INFRA:
        return {"run a program": refusal or good.error or "failed"}
    found = {
        "run a program": _expect(good.outputs == ("[4, 1.5]",), good.status),
        "stop an endless loop": _expect(loop.status is Status.TIMEOUT, loop.status),
        "stop a memory bomb": _expect(bomb.status in (Status.OOM, Status.TIMEOUT), bomb.status),
        "see a forged result": _expect(forger.status is Status.PROTOCOL, forger.status),
    }
    for kernel in walls:
        if kernel.status is not Status.OK:
            found["kernel walls"] = f"{kernel.status}: {kernel.error}"
        else:
            from sandbox.literals import value_of

            for name, got in value_of(kernel.outputs[0] or "{}").items():
                found[name] = _expect(got == "PermissionError", got)
    return found


def require(box: Sandbox) -> None:
    """Raise SandboxUnavailable unless every canary of the box's level behaves."""
    if box.level not in (1, 2, 3):
        raise ValueError("level is 1, 2 or 3")
    if box.level in _passed:
        return
    failed = {name: got for name, got in report(box).items() if got != "ok"}
    if failed:
        reason = "; ".join(f"{name}: {got}" for name, got in failed.items())
        if box.refusal:
            reason = f"missing {box.refusal}"
        # A refusal is of what the level needs; some of it no level does without.
        lower = (_NEEDED_FROM.get(box.refusal, 1) if box.refusal else box.level) - 1
        advice = _LOWER.format(lower=lower) if lower else ""
        raise SandboxUnavailable(_ADVICE.format(level=box.level, reason=reason) + advice + ".")
    _passed.add(box.level)


def _expect(holds: bool, got: object) -> str:
    return "ok" if holds else f"does not hold ({got})"
