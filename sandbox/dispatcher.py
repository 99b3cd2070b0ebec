"""One thread that feeds requests to zygotes and collects what the kernel says of their children.

It sleeps in `select` (epoll); it holds no verdict logic (`sandbox.box`) and decodes nothing
(`sandbox.wire`). Zygotes of each kind (hash seed, lean or full) are spawned on demand. At most
`workers` run a young program at any time, and as many a slow one: an endless loop holds up nobody,
and where several come together they share the cores instead of ending one after another.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.child.kernel import PRIMITIVES
from sandbox.child.libc import REPORT
from sandbox.child.preload import LEAN
from sandbox.child.zygote import HELLO, REFUSED
from sandbox.jobs import Limits

# The harness comes last, so that what each child writes to lies closer together.
_BOOTSTRAP = (
    f"import {', '.join(LEAN)}, sys; p = types.ModuleType('sandbox'); p.__path__ = [sys.argv[1]]; "
    "sys.modules['sandbox'] = p; from sandbox.child.zygote import main; main(sys.argv[2:])"
)
# LD_BIND_NOW: each child would otherwise resolve, and copy the pages of, the same symbols again.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "LD_BIND_NOW": "1", "TZ": "UTC"}
_RETRIES = 2
_START_GRACE_S = 60.0
_YOUNG_S = 0.01  # then a program is slow: its result pipe is watched, its worker does another job
_READ = 1 << 20


@dataclass(slots=True)
class Report:
    """What became of a request: the child's bytes, and the zygote's word on how it ended.

    `status` is the wait status, None after an infrastructure failure that outlived its retries.
    """

    stream: bytes
    status: int | None
    cpu_s: float
    wall_s: float
    max_rss_kib: int


@dataclass(slots=True)
class Request:
    """A packed job for a zygote of hash seed `flavour`, with few modules or with all of them.

    `done` runs on the dispatcher's thread.
    """

    frame: bytes
    flavour: int
    lean: bool
    stream_cap: int
    wall_s: float
    done: Callable[[Report], None]
    attempts: int = 0
    since: float = 0.0
    """When it was queued, on the monotonic clock."""


@dataclass(slots=True)
class Counters:
    """What the dispatcher has seen so far; `busy` and `queued` are of now, the rest are totals.

    cpu_s: of the children. queue_wait_s: summed over the forks, from queued to sent.
    """

    forks: int = 0
    infra_retries: int = 0
    infra_failures: int = 0
    zygotes_started: int = 0
    zygotes_lost: int = 0
    cpu_s: float = 0.0
    queue_wait_s: float = 0.0
    busy: int = 0
    queued: int = 0


def _pipe() -> tuple[int, int]:
    """As os.pipe, but above the standard streams: this process may have closed its own."""
    read, write = os.pipe()
    return _above_streams(read), _above_streams(write)


def _above_streams(fd: int) -> int:
    if fd > 2:
        return fd
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return high


class _Zygote:
    """One fork server and its three pipes, seen from the parent."""

    def __init__(self, pool: _Pool, level: int, usual: Limits) -> None:
        self.pool = pool
        job_read, self.job_fd = _pipe()
        self.result_fd, result_write = _pipe()
        self.control_fd, control_write = _pipe()
        theirs = (job_read, result_write, control_write)
        ours = (self.job_fd, self.result_fd, self.control_fd)
        try:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-S", "-s", "-P", "-B", "-c", _BOOTSTRAP,
                    str(Path(__file__).parent), repr(usual.cpu_s), repr(usual.wall_s),
                    *map(str, (usual.memory_mb, usual.output_bytes, usual.depth)),
                    *map(str, (os.getpid(), level, int(pool.lean), *theirs)),
                ],
                env={**_ENVIRONMENT, "PYTHONHASHSEED": str(pool.flavour)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=theirs,
                start_new_session=True,
            )  # fmt: skip
        except OSError:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        for fd in ours:
            os.set_blocking(fd, False)
        self.request: Request | None = None
        self.unsent = memoryview(b"")
        self.stream = bytearray()
        self.started = 0.0
        self.watched = False
        self.overflow = False

    def unread_job_bytes(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self.job_fd, termios.FIONREAD, count)
        return count[0]

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its child, too, where it would live on
        for fd in (self.job_fd, self.result_fd, self.control_fd):
            os.close(fd)
        self.process.wait()


@dataclass(slots=True)
class _Pool:
    """The zygotes of one kind and the requests that wait for one."""

    flavour: int
    lean: bool
    zygotes: set[_Zygote] = field(default_factory=set)
    idle: list[_Zygote] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)


class Dispatcher(threading.Thread):
    """Runs requests on `workers` children at once, and as many slow ones, until `close`.

    Zygotes are prepared for jobs under the limits `usual`; others cost a little more.
    """

    def __init__(self, workers: int, level: int, usual: Limits) -> None:
        super().__init__(name="sandbox-dispatcher", daemon=True)
        self._workers = workers
        self._usual = usual
        self._level = level
        self._incoming: deque[Request] = deque()
        self._pools = [_Pool(flavour, lean) for flavour in (1, 0) for lean in (True, False)]
        self._busy: dict[_Zygote, None] = {}  # in order of start
        self._slow = 0
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._asleep = False
        self._closing = False
        self._served = False
        self._hopeless = False  # the first zygotes refused to serve, for what will not change
        self.counters = Counters()
        self.refusal = ""
        """Why the last zygote refused to serve; empty while all is well."""

    def put(self, request: Request) -> None:
        """Queue a request; from any thread."""
        request.since = time.monotonic()
        self._incoming.append(request)
        # With all workers busy it wakes up soon enough by itself.
        if self._asleep and self._has_room():
            self._wake()

    def close(self) -> None:
        """Stop; what is queued or runs comes back as an infrastructure failure."""
        self._closing = True
        self._wake()
        if self.is_alive() and threading.current_thread() is not self:
            self.join()

    def pids(self) -> list[int]:
        """Process ids of the live zygotes."""
        return [z.process.pid for pool in self._pools for z in list(pool.zygotes)]

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"w")

    def run(self) -> None:
        """The loop. `_asleep` is set before the last look at the queue, so no wake-up is lost."""
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        try:
            while not self._closing:
                self._accept()
                self._asleep = True
                if self._incoming or self._closing:
                    self._asleep = False
                    continue
                events = self._selector.select(self._nap())
                self._asleep = False
                for key, _ in events:
                    if key.data is None:
                        self._drain_wake()
                        continue
                    zygote, handler = key.data
                    if zygote.process.returncode is None:
                        handler(zygote)
                self._look_after_slow_ones()
        finally:
            self._shut_down()

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 65536)

    def _nap(self) -> float | None:
        """Seconds to sleep: until the oldest unwatched job needs watching, or a hang check."""
        if not self._busy:
            return None
        now = time.monotonic()
        for zygote in self._busy:
            if not zygote.watched:
                return max(0.0, zygote.started + _YOUNG_S - now)
        return 1.0

    def _accept(self) -> None:
        while self._incoming:
            request = self._incoming.popleft()
            self._pool(request).waiting.append(request)
        while self._has_room():
            pool = self._next_pool()
            if pool is None:
                break
            if pool.idle:
                zygote = pool.idle.pop()
            else:
                started = self._start(pool)
                if started is None:
                    continue
                zygote = started
            self._send(zygote, pool.waiting.popleft())
        self.counters.queued = sum([len(pool.waiting) for pool in self._pools])
        self.counters.busy = len(self._busy)

    def _has_room(self) -> bool:
        return len(self._busy) - min(self._slow, self._workers) < self._workers

    def _pool(self, request: Request) -> _Pool:
        return self._pools[2 * (1 - request.flavour) + (not request.lean)]

    def _next_pool(self) -> _Pool | None:
        """Deterministic jobs' second halves finish what is begun before new work starts; of one
        hash seed, whoever has waited longer."""
        second, second_full, first, first_full = self._pools
        for lean, full in (second, second_full), (first, first_full):
            if lean.waiting and full.waiting:
                return lean if lean.waiting[0].since <= full.waiting[0].since else full
            if lean.waiting or full.waiting:
                return lean if lean.waiting else full
        return None

    def _start(self, pool: _Pool) -> _Zygote | None:
        if self._hopeless:
            self._retry_or_fail(pool.waiting.popleft())
            return None
        try:
            zygote = _Zygote(pool, self._level, self._usual)
        except OSError as error:
            self.refusal = self.refusal or f"cannot start a process: {error}"
            self._retry_or_fail(pool.waiting.popleft())
            return None
        self.counters.zygotes_started += 1
        pool.zygotes.add(zygote)
        self._selector.register(zygote.control_fd, selectors.EVENT_READ, (zygote, self._on_control))
        return zygote

    def _send(self, zygote: _Zygote, request: Request) -> None:
        zygote.request = request
        zygote.started = time.monotonic()
        zygote.stream = bytearray()
        zygote.watched = zygote.overflow = False
        zygote.unsent = memoryview(request.frame)
        self._busy[zygote] = None
        self.counters.forks += 1
        self.counters.queue_wait_s += zygote.started - request.since
        self._write(zygote)
        if zygote.unsent:
            self._selector.register(zygote.job_fd, selectors.EVENT_WRITE, (zygote, self._on_room))

    def _write(self, zygote: _Zygote) -> None:
        try:
            sent = os.write(zygote.job_fd, zygote.unsent)
        except BlockingIOError:
            return
        except OSError:  # the zygote is gone; its control pipe will say so
            sent = len(zygote.unsent)
        zygote.unsent = zygote.unsent[sent:]

    def _on_room(self, zygote: _Zygote) -> None:
        self._write(zygote)
        if not zygote.unsent:
            self._selector.unregister(zygote.job_fd)

    def _on_result(self, zygote: _Zygote) -> None:
        self._read(zygote)

    def _read(self, zygote: _Zygote) -> None:
        """Take what the child has written. Beyond the cap it is read and dropped."""
        cap = zygote.request.stream_cap if zygote.request else 0
        while True:
            try:
                part = os.read(zygote.result_fd, _READ)
            except BlockingIOError:
                return
            if not part:
                return
            if len(zygote.stream) + len(part) > cap:
                zygote.overflow = True
                del zygote.stream[cap:]
            else:
                zygote.stream += part
            if len(part) < 65536:
                return

    def _on_control(self, zygote: _Zygote) -> None:
        try:
            message = os.read(zygote.control_fd, REPORT.size)
        except BlockingIOError:
            return
        if len(message) < REPORT.size:
            self._lost(zygote)
            return
        status, user_s, user_us, system_s, system_us, extra = REPORT.unpack(message)
        if status == HELLO:
            self._served = True
            return
        if status == REFUSED:
            self.refusal = PRIMITIVES[extra]
            self._hopeless = not self._served
            return  # it exits; the end of its pipe follows
        request = zygote.request
        if request is None:  # a child died between two jobs (killed from outside): no harm done
            return
        self._read(zygote)
        stream = bytes(zygote.stream)
        if zygote.overflow:
            stream += b"\x00"  # one byte over the cap: no parse can succeed
        wall_s = time.monotonic() - zygote.started
        poisoned = bool(zygote.unsent) or (status != 0 and zygote.unread_job_bytes() > 0)
        self._release(zygote)
        if poisoned:
            self._discard(zygote)
        else:
            zygote.pool.idle.append(zygote)
        cpu_s = user_s + system_s + 1e-6 * (user_us + system_us)
        self.counters.cpu_s += cpu_s
        request.done(Report(stream, status, cpu_s, wall_s, extra))

    def _release(self, zygote: _Zygote) -> None:
        if zygote.watched:
            self._selector.unregister(zygote.result_fd)
            zygote.watched = False
            self._slow -= 1
        if zygote.unsent:
            self._selector.unregister(zygote.job_fd)
        zygote.request = None
        self._busy.pop(zygote, None)

    def _discard(self, zygote: _Zygote) -> None:
        pool = zygote.pool
        pool.zygotes.discard(zygote)
        if zygote in pool.idle:
            pool.idle.remove(zygote)
        self._selector.unregister(zygote.control_fd)
        zygote.close()

    def _lost(self, zygote: _Zygote) -> None:
        """A zygote died or hangs: what it ran is tried again on another one."""
        self.counters.zygotes_lost += 1
        request = zygote.request
        self._release(zygote)
        self._discard(zygote)
        if request is not None:
            self._retry_or_fail(request)

    def _retry_or_fail(self, request: Request) -> None:
        request.attempts += 1
        if request.attempts <= _RETRIES and not self._hopeless:
            self.counters.infra_retries += 1
            request.since = time.monotonic()
            self._pool(request).waiting.appendleft(request)
        else:
            self.counters.infra_failures += 1
            request.done(Report(b"", None, 0.0, 0.0, 0))

    def retry(self, request: Request) -> None:
        """Try a request again whose child was killed by nobody we know; on our own thread only."""
        self._retry_or_fail(request)

    def _look_after_slow_ones(self) -> None:
        now = time.monotonic()
        hung = []
        for zygote in self._busy:
            age = now - zygote.started
            if age < _YOUNG_S:
                break
            if not zygote.watched:
                zygote.watched = True
                self._slow += 1
                self._selector.register(
                    zygote.result_fd, selectors.EVENT_READ, (zygote, self._on_result)
                )
            elif zygote.request and age > zygote.request.wall_s + _START_GRACE_S:
                hung.append(zygote)
        for zygote in hung:
            self._lost(zygote)

    def _shut_down(self) -> None:
        pending = [z.request for z in self._busy if z.request]
        for pool in self._pools:
            pending += pool.waiting
            pool.waiting.clear()
            for zygote in pool.zygotes:
                zygote.close()
            pool.zygotes.clear()
        pending += self._incoming
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for request in pending:
            request.done(Report(b"", None, 0.0, 0.0, 0))
