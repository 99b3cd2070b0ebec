"""The fork server: one warm, single-threaded interpreter that forks one child per program.

It is started by exec with a scrubbed environment, loads the standard library a program may use,
warms the whole path, closes itself in, and loops: fork, wait, report. The next child is forked
*before* its job arrives and blocks on the job pipe, so job text reaches the child and never this
process, and the fork is off the critical path. Control messages are of the form `REPORT`; a first
one with status `HELLO` says that all is well, one with `REFUSED` has the missing primitive for KiB.

A lean zygote has loaded only what most programs import: a fork copies less. A program that asks it
for any other module ends with `NEEDS_MORE`, and the parent starts it anew in a full one.
"""

from __future__ import annotations

import gc
import os
import resource  # noqa: F401  os.wait4 looks for it, when no import can find it any more
import select
import signal
import sys
from collections.abc import Callable
from marshal import dumps, loads
from typing import NoReturn

from sandbox.child import harness
from sandbox.child.inherited import restore_defaults
from sandbox.child.kernel import Budget, MissingPrimitive
from sandbox.child.kernel import Walls as LinuxWalls
from sandbox.child.libc import REPORT, by_libc, by_os, interpreter_in_huge_pages
from sandbox.child.portable import PortableWalls
from sandbox.child.preload import preload, warm

Walls = LinuxWalls | PortableWalls

HELLO, REFUSED = -1, -2
NEEDS_MORE, IDLE_EXIT, WALL_EXIT = 96, 97, 98
SHORT = select.PIPE_BUF
"""Bytes that a pipe passes on as one."""
LONG = b"\x00"
"""What no tuple begins with in marshal format."""


def main(argv: list[str]) -> None:
    """argv: the usual CPU and wall seconds; then whole numbers: the usual MiB, cap of a result and
    its depth; parent pid, level, lean or not; the fds job (read), result and control (write)."""
    memory_mb, output, depth, parent, level, lean, *inherited = map(int, argv[2:])
    usual: Budget = (float(argv[0]), float(argv[1]), memory_mb)
    restore_defaults()
    job_fd, result_fd, control_fd = _move_to_low_numbers(inherited)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the parent
    try:
        walls = make_walls(level, usual)
        walls.die_with_parent(parent)
        _prefer_for_oom_killer()
        preload(lean=bool(lean))
        warm(lean=bool(lean))
        if sys.platform == "linux":
            interpreter_in_huge_pages()
        _rehearse(walls, parent, output, depth)
        walls.raise_in_zygote()
        _try_out(walls)
    except MissingPrimitive as missing:
        os.write(control_fd, REPORT.pack(REFUSED, 0, 0, 0, 0, missing.code))
        os._exit(1)
    os.write(control_fd, REPORT.pack(HELLO, 0, 0, 0, 0, 0))
    _hide_harness()
    if lean:
        sys.meta_path.append(_NeedsMore())
    gc.collect()
    gc.freeze()
    serve(walls, job_fd, result_fd, control_fd)


def make_walls(level: int, usual: Budget) -> Walls:
    """What this system has; raises MissingPrimitive."""
    return (LinuxWalls if sys.platform == "linux" else PortableWalls)(level, usual)


def serve(walls: Walls, job_fd: int, result_fd: int, control_fd: int) -> None:
    """Fork, wait, report, until the parent closes the job pipe."""
    me, exit = os.getpid(), os._exit  # a program may replace what os has
    fork, wait, tell = by_libc() if sys.platform == "linux" else by_os()
    strays_possible = walls.level < 2  # from there on no program can fork
    idle = IDLE_EXIT << 8
    while True:
        pid = fork()
        if pid == 0:
            try:
                os.close(control_fd)
                _child(walls, me, job_fd, result_fd)
                exit(0)
            finally:
                exit(WALL_EXIT)
        if pid < 0:
            exit(1)
        status = wait(pid)
        if strays_possible:
            _reap_strays()
        if status == idle and _hung_up(job_fd):
            exit(0)
        tell(control_fd)


class _NeedsMore:
    """Asked for a module that none of the importers before it has: that is for a full zygote."""

    def find_spec(self, *_: object, exit: Callable[[int], NoReturn] = os._exit) -> NoReturn:
        exit(NEEDS_MORE)


def _child(walls: Walls, parent: int, job_fd: int, result_fd: int) -> None:
    walls.die_with_parent(parent)
    code, entry, inputs, repeats, budget, output, depth = loads(_read_job(job_fd))
    calls = len(inputs) * repeats or 1
    walls.enter(budget, calls)
    rearm = None if calls == 1 else lambda: walls.rearm(budget)
    harness.run(code, entry, inputs, repeats, output, depth, result_fd, rearm)


def _try_out(walls: Walls) -> None:
    """A child that goes through the walls and ends: what it lacks is known before the first job."""
    pid = os.fork()
    if pid == 0:
        try:
            walls.enter(walls.usual, 1)
        except MissingPrimitive as missing:
            os._exit(missing.code)
        os._exit(0)
    if code := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise MissingPrimitive(max(code, 0))


def _rehearse(walls: Walls, parent: int, output: int, depth: int) -> None:
    """Take the child's path here, before the walls are up, until the interpreter has specialised
    its code and filled its caches: else every child would write, and so copy, those pages anew."""
    read_fd, write_fd = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    code = "def f(x):\n    return [x]"
    for turn in range(32):
        job = code, "f", [("1", True)], 1 + turn % 2, walls.usual, output, depth
        os.write(write_fd, dumps(job))
        _child(walls, parent, read_fd, null)
    for fd in (read_fd, write_fd, null):
        os.close(fd)


def _read_job(job_fd: int) -> bytes:
    """A job in marshal format; the process ends quietly when the parent has closed the pipe.

    A short one is written, and so read, in one piece. A long one comes after `LONG` and its size.
    """
    body = os.read(job_fd, SHORT)
    if body[:1] == LONG:
        have, size = body[5:], int.from_bytes(body[1:5], "little")
        parts, missing = [have], size - len(have)
        while missing:
            part = os.read(job_fd, min(1 << 20, missing))
            if not part:
                os._exit(IDLE_EXIT)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
    if not body:
        os._exit(IDLE_EXIT)
    return body


def _reap_strays() -> None:
    """Kill what a program left behind (possible at level 1 only: seccomp denies every fork)."""
    if sys.platform != "linux":
        return  # nothing lists them there
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as children:
            for stray in children.read().split():
                os.kill(int(stray), signal.SIGKILL)
        os.waitpid(-1, 0)


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def _move_to_low_numbers(fds: list[int]) -> tuple[int, int, int]:
    """Descriptors 3, 4, 5 in every zygote, whatever the parent had open; no others."""
    clear = max(*fds, 5) + 1
    high = [os.dup2(fd, clear + index) for index, fd in enumerate(fds)]
    for target, fd in enumerate(high, 3):
        os.dup2(fd, target, inheritable=False)
    os.closerange(6, clear + len(fds))
    return 3, 4, 5


def _prefer_for_oom_killer() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # a courtesy to the trainer, not a wall


def _hide_harness() -> None:
    """A program's `import sandbox` finds nothing. For tidiness: the walls are in the kernel."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sandbox"]:
        del sys.modules[name]
    sys.argv[:] = sys.orig_argv[:] = ["-c"]
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "__name__", "") != "PathFinder"]
