"""The fork server: one warm, single-threaded interpreter that forks one child per program.

It is started by exec with a scrubbed environment, loads the standard library a program may use,
warms the whole path, closes itself in, and loops: fork, wait, report. The next child is forked
*before* its job arrives and blocks on the job pipe, so job text reaches the child and never this
process, and the fork is off the critical path. Control messages are 16 bytes: ``<i status>
<I max RSS in KiB> <Q CPU microseconds>``; a first message with status `HELLO` carries the level,
one with `REFUSED` the missing primitive.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import struct
import sys
from json import loads as _loads

from sandbox.child import harness
from sandbox.child.kernel import MissingPrimitive, Walls
from sandbox.child.preload import preload, warm

CONTROL = struct.Struct("<iIQ")
HELLO, REFUSED = -1, -2
IDLE_EXIT, WALL_EXIT = 97, 98
_LENGTH = struct.Struct("<I")


def main(argv: list[str]) -> None:
    """argv: parent pid, level, and the fds job (read), result (write), control (write)."""
    parent, level, *inherited = (int(a) for a in argv)
    job_fd, result_fd, control_fd = _move_to_low_numbers(inherited)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the parent
    try:
        walls = Walls(level)
        walls.die_with_parent(parent)
        _prefer_for_oom_killer()
        preload()
        warm()
        walls.measure()
        walls.raise_in_zygote()
    except MissingPrimitive as missing:
        os.write(control_fd, CONTROL.pack(REFUSED, missing.code, 0))
        os._exit(1)
    os.write(control_fd, CONTROL.pack(HELLO, level, 0))
    _hide_harness()
    gc.collect()
    gc.freeze()
    serve(walls, job_fd, result_fd, control_fd)


def serve(walls: Walls, job_fd: int, result_fd: int, control_fd: int) -> None:
    """Fork, wait, report, until the parent closes the job pipe."""
    me = os.getpid()
    fork, wait4, write, pack = os.fork, os.wait4, os.write, CONTROL.pack
    while True:
        pid = fork()
        if pid == 0:
            os.close(control_fd)
            try:
                _child(walls, me, job_fd, result_fd)
            finally:
                os._exit(WALL_EXIT)
        _, status, usage = wait4(pid, 0)
        _reap_strays()
        if os.waitstatus_to_exitcode(status) == IDLE_EXIT and _hung_up(job_fd):
            os._exit(0)
        cpu_us = int((usage.ru_utime + usage.ru_stime) * 1e6)
        write(control_fd, pack(status, usage.ru_maxrss, cpu_us))


def _child(walls: Walls, zygote: int, job_fd: int, result_fd: int) -> None:
    walls.die_with_parent(zygote)
    body = _read_job(job_fd)
    code, entry, inputs, repeats, cpu_s, wall_s, memory_mb, output, depth = _loads(body)
    calls = max(1, len(inputs)) * repeats
    rearm = walls.budget(cpu_s, wall_s, memory_mb, calls)
    walls.seal(rearm)
    harness.run(
        code, entry, inputs, repeats, output, depth, result_fd, walls.rearm if rearm else None
    )
    os._exit(0)


def _read_job(job_fd: int) -> bytes:
    """One length-prefixed job; the process ends quietly when the parent has closed the pipe."""
    body = os.read(job_fd, 65536)
    if not body:
        os._exit(IDLE_EXIT)
    (size,) = _LENGTH.unpack_from(body)
    if len(body) < size + 4:
        parts, have = [body], len(body)
        while have < size + 4:
            part = os.read(job_fd, min(1 << 20, size + 4 - have))
            if not part:
                os._exit(IDLE_EXIT)
            parts.append(part)
            have += len(part)
        body = b"".join(parts)
    return body[4:]


def _reap_strays() -> None:
    """Kill what a program left behind (possible at level 1 only: seccomp denies every fork)."""
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
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in fds]
    for target, fd in enumerate(high, 3):
        os.dup2(fd, target, inheritable=False)
    os.closerange(6, 64 + 16)
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
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "__name__", "") != "PathFinder"]
