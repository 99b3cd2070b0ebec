"""`Sandbox`: jobs in, verdicts out. Caching, sharing, re-runs and the determinism rule."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from types import TracebackType

from sandbox.child.zygote import NEEDS_MORE
from sandbox.dispatcher import Dispatcher, Report, Request
from sandbox.jobs import Job, Limits, Outcome, SandboxUnavailable, Status
from sandbox.lean import is_lean
from sandbox.literals import LiteralError, parse_arguments
from sandbox.wire import ProtocolError, max_stream_bytes, pack_job, read_records

_Key = tuple[str, tuple[str, ...], str, bool, bool, Limits, bool | None]
_CACHED_CHARS = 16384


@dataclass(slots=True)
class _Verdict:
    """The verdict on one input so far."""

    status: Status = Status.INFRA
    output: str | None = None
    shown: str | None = None
    error: str | None = None


class Sandbox:
    """Runs untrusted programs, one fresh process per program.

    Args:
        limits: budgets of each call.
        level: 3 full (seccomp, landlock, namespaces), 2 kernel (seccomp), 1 process (rlimits and
            kill only: no wall around files and network). Never lowered silently.
        workers: programs that run at once, not counting up to as many that have run for longer than
            10 ms; default: one more than the cores this process may use, so that none idles while
            a verdict is handed over. The CPU limit is on CPU time. The memory of them all is at
            most 2 * workers * (memory_mb + some 10 MiB).
        cache_size: verdicts remembered; 0 for none. INFRA never is.
        interpreters: of different hash seeds, that have to agree on a deterministic job; with 1
            only its two calls in one process have to, which misses the order of a set.

    Raises:
        SandboxUnavailable: the level cannot be had here; the message says what is missing.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        level: int = 2,
        workers: int | None = None,
        cache_size: int = 65536,
        interpreters: int = 2,
    ) -> None:
        from sandbox.probe import require

        self.limits = limits or Limits()
        self.workers = workers or _cores() + 1
        self.level = level
        self.interpreters = interpreters
        self._cache_size = cache_size
        self._cache: OrderedDict[_Key, Outcome] = OrderedDict()
        self._in_flight: dict[_Key, list[tuple[str, Future[Outcome]]]] = {}
        self._lock = threading.Lock()
        self._counts: dict[str, int] = dict.fromkeys(("jobs", "cache_hits", "shared"), 0)
        self._counts.update({status.value: 0 for status in Status})
        self._timeout_cpu_s = 0.0
        self._closed = False
        self._dispatcher = Dispatcher(self.workers, level, self.limits)
        self._dispatcher.start()
        try:
            require(self)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, jobs: Iterable[Job]) -> list[Outcome]:
        """The outcomes in the order of the jobs; never raises for what a job does."""
        return [future.result() for future in [self.submit(job) for job in jobs]]

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a job; from any thread. Equal jobs share one run and its verdict."""
        return self.submit_to(job, lean=None)

    def submit_to(self, job: Job, lean: bool | None) -> Future[Outcome]:
        """`submit`, to zygotes of this kind first; None: of the kind that the job's text suggests.

        The verdict is the same. For tests of the walls, which both kinds have to have.
        """
        if self._closed:
            raise RuntimeError("the sandbox is closed")
        key = (
            job.code, job.inputs, job.entry, job.deterministic, job.stop_at_failure,
            job.limits or self.limits, lean,
        )  # fmt: skip
        future: Future[Outcome] = Future()
        with self._lock:
            self._counts["jobs"] += 1
            known = self._cache.get(key)
            if known is not None:
                self._cache.move_to_end(key)
                self._counts["cache_hits"] += 1
            else:
                sharers = self._in_flight.get(key)
                if sharers is not None:
                    self._counts["shared"] += 1
                    sharers.append((job.id, future))
                    return future
                self._in_flight[key] = [(job.id, future)]
        if known is not None:
            self._count(known.status)
            future.set_result(_with_id(known, job.id))
            return future
        _Course(self, job, key, lean).start()
        return future

    def stats(self) -> dict[str, float]:
        """Counters since the start: jobs by status, cache, forks, retries, lost zygotes, seconds.

        cpu_s is what the programs took, timeout_cpu_s the part of it that came to nothing because
        they ran into a limit; queue_wait_s is the time that jobs waited for a free worker, summed.
        """
        counters = asdict(self._dispatcher.counters)
        with self._lock:
            return {**self._counts, **counters, "timeout_cpu_s": self._timeout_cpu_s}

    def zygote_pids(self) -> list[int]:
        """Process ids of the live fork servers, for monitoring."""
        return self._dispatcher.pids()

    def close(self) -> None:
        """End all processes; unfinished jobs come back as INFRA."""
        self._closed = True
        self._dispatcher.close()

    @property
    def refusal(self) -> str:
        """The primitive that the zygotes miss on this machine; empty if none."""
        return self._dispatcher.refusal

    def _count(self, status: Status) -> None:
        with self._lock:
            self._counts[status.value] += 1

    def _spent_on_timeouts(self, cpu_s: float) -> None:
        with self._lock:
            self._timeout_cpu_s += cpu_s

    def _send(self, request: Request) -> None:
        self._dispatcher.put(request)

    def _retry(self, request: Request) -> None:
        self._dispatcher.retry(request)

    def _finish(self, key: _Key, outcome: Outcome) -> None:
        size = len(key[0]) + sum(map(len, key[1])) + sum(len(o or "") for o in outcome.outputs)
        with self._lock:
            if self._cache_size and outcome.status is not Status.INFRA and size < _CACHED_CHARS:
                self._cache[key] = outcome
                if len(self._cache) > self._cache_size:
                    self._cache.popitem(last=False)
            sharers = self._in_flight.pop(key)
        for id, future in sharers:
            self._count(outcome.status)
            if future.set_running_or_notify_cancel():
                future.set_result(_with_id(outcome, id))


class _Course:
    """One job on its way through zygotes.

    First interpreter: all inputs in one fork; where an input kills the child, the inputs after it
    go to a new fork; where a lean zygote lacks a module, all go to a full one. A deterministic job
    whose inputs are OK there then runs in the second interpreter, in reverse order and on the
    literal texts of the inputs, and the canonical texts have to agree: an expression may do more
    than make the values that its text tells.
    """

    def __init__(self, box: Sandbox, job: Job, key: _Key, lean: bool | None) -> None:
        self._box = box
        self._job = job
        self._key = key
        self._limits = job.limits or box.limits
        self._repeats = 2 if job.deterministic else 1
        self._inputs = [_classify(text, self._limits) for text in job.inputs]
        self._verdicts = [_Verdict() for _ in range(len(job.inputs) or 1)]
        self._first: list[_Verdict] = []
        self._order: list[int] = list(range(len(self._verdicts)))
        self._flavour = 0
        if lean is None:
            lean = is_lean(job.code)
            for text, literal in self._inputs:
                lean = lean and (literal or is_lean(text))
        self._lean = lean
        self._cpu_s = 0.0
        self._request: Request | None = None

    def start(self) -> None:
        """Send the inputs in `_order` to a zygote of the present flavour."""
        inputs = [self._inputs[i] for i in self._order] if self._inputs else []
        limits = self._limits
        try:
            frame = pack_job(self._job.code, self._job.entry, inputs, self._repeats, limits)
        except ValueError as error:
            self._mark(self._order, Status.UNSUPPORTED, str(error))
            self._finish()
            return
        calls = max(1, len(inputs)) * self._repeats
        self._request = Request(
            frame, self._flavour, self._lean, max_stream_bytes(len(inputs), limits),
            limits.wall_s * calls, self._done,
        )  # fmt: skip
        self._box._send(self._request)

    def _done(self, report: Report) -> None:
        """On the dispatcher's thread: judge what came back, and go on or finish.

        A fault of ours in there is one job's INFRA, not the end of the thread that serves all.
        """
        try:
            self._judge(report)
        except Exception as error:
            self._mark(range(len(self._verdicts)), Status.INFRA, f"the sandbox failed: {error!r}")
            self._finish()

    def _judge(self, report: Report) -> None:
        self._cpu_s += report.cpu_s
        if report.status is None:
            self._mark(self._order, Status.INFRA, "the sandbox failed")
            self._next()
            return
        exit_code = os.waitstatus_to_exitcode(report.status)
        if self._lean and exit_code == NEEDS_MORE:
            self._lean = False
            self.start()
            return
        try:
            records, complete = read_records(report.stream, len(self._order), self._limits)
        except ProtocolError as error:
            self._mark(self._order, Status.PROTOCOL, str(error))
            self._next()
            return
        if exit_code == 0 and not complete:
            self._mark(self._order, Status.PROTOCOL, "the result stream is cut short")
            self._next()
            return
        for index, record in zip(self._order, records, strict=False):
            verdict = self._verdicts[index]
            verdict.status = record.status
            verdict.shown = record.shown
            if record.status is Status.OK:
                verdict.output = record.text
            else:
                verdict.error = record.text
        rest = self._order[len(records) :]
        if exit_code == 0:
            self._next()
            return
        culprit = self._order[min(len(records), len(self._order) - 1)]
        status, cause = _cause(exit_code, report, self._limits)
        if status is Status.INFRA and self._request is not None:
            self._cpu_s -= report.cpu_s
            self._box._retry(self._request)
            return
        if status is Status.TIMEOUT:
            self._box._spent_on_timeouts(report.cpu_s)
        self._mark([culprit], status, cause)
        self._order = rest[1:]
        if self._order and not self._job.stop_at_failure:
            self.start()
        else:
            self._next()

    def _next(self) -> None:
        """All inputs of this flavour are judged: to the second interpreter, or done."""
        if self._job.stop_at_failure:
            self._stop_at_first_failure()
        if self._flavour == 1:
            for first, second in zip(self._first, self._verdicts, strict=True):
                _reconcile(first, second)
            self._verdicts = self._first
        elif self._job.deterministic and self._box.interpreters > 1:
            good = [i for i, v in enumerate(self._verdicts) if v.status is Status.OK]
            all_needed = self._job.stop_at_failure
            if good and not (all_needed and len(good) < len(self._verdicts)):
                self._first = self._verdicts
                self._verdicts = [
                    _Verdict(v.status, v.output, v.shown, v.error) for v in self._verdicts
                ]
                self._flavour = 1
                self._inputs = [*map(self._as_text, range(len(self._inputs)))]
                self._order = good[::-1]
                self.start()
                return
        self._finish()

    def _as_text(self, index: int) -> tuple[str, bool]:
        """An input as the literal text that is kept of it; as it was where it has none."""
        shown = self._first[index].shown
        return self._inputs[index] if shown is None else _classify(shown, self._limits)

    def _stop_at_first_failure(self) -> None:
        for index, verdict in enumerate(self._verdicts):
            if verdict.status not in (Status.OK, Status.INFRA) or verdict.error:
                rest = range(index + 1, len(self._verdicts))
                self._mark(rest, verdict.status, "not run: an earlier input failed")
                return

    def _mark(self, indices: Iterable[int], status: Status, error: str) -> None:
        for index in indices:
            shown = self._verdicts[index].shown
            self._verdicts[index] = _Verdict(status, None, shown, error)

    def _finish(self) -> None:
        judged = self._verdicts
        bad = next((v for v in judged if v.status is not Status.OK), None)
        count = len(self._job.inputs)
        inputs = tuple(
            text if literal else verdict.shown
            for (text, literal), verdict in zip(self._inputs, judged, strict=False)
        )
        outcome = Outcome(
            id="",
            status=bad.status if bad else Status.OK,
            statuses=tuple(v.status for v in judged[:count]),
            outputs=tuple(v.output for v in judged[:count]),
            error=bad.error if bad else None,
            cpu_ms=round(self._cpu_s * 1e3, 3),
            inputs=inputs,
        )
        self._box._finish(self._key, outcome)


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _classify(text: str, limits: Limits) -> tuple[str, bool]:
    """Literal argument text in canonical form, or the expression as it is."""
    try:
        return parse_arguments(text, limits.output_bytes, limits.depth), True
    except LiteralError:
        return text, False


def _reconcile(first: _Verdict, second: _Verdict) -> None:
    """Fold the second interpreter's verdict on an input into the first's."""
    if first.status is not Status.OK:
        return
    if second.status is Status.INFRA:
        first.status, first.output, first.error = Status.INFRA, None, second.error
    elif (second.status, second.output) != (first.status, first.output):
        first.status, first.output = Status.NONDETERMINISTIC, None
        first.error = "two interpreters with different hash seeds disagree"
        if first.shown is not None:
            first.error += ", the second on the literal text of the input"


def _cause(exit_code: int, report: Report, limits: Limits) -> tuple[Status, str]:
    """Why a child did not end by itself, from its wait status and the clocks."""
    if exit_code > 0:
        return Status.CRASHED, f"the process exited with code {exit_code}"
    number = -exit_code
    if number in (signal.SIGXCPU, signal.SIGPROF):
        return Status.TIMEOUT, f"over the CPU budget of {limits.cpu_s} s"
    if number == signal.SIGALRM and report.wall_s >= 0.9 * limits.wall_s:
        return Status.TIMEOUT, f"over the wall budget of {limits.wall_s} s"
    if number != signal.SIGKILL:
        return Status.CRASHED, f"killed by {signal.Signals(number).name}"
    if report.cpu_s >= 0.9 * limits.cpu_s:
        return Status.TIMEOUT, f"over the CPU budget of {limits.cpu_s} s"
    if report.wall_s >= 0.9 * limits.wall_s:
        return Status.TIMEOUT, f"over the wall budget of {limits.wall_s} s"
    return Status.INFRA, "killed from outside"


def _with_id(outcome: Outcome, id: str) -> Outcome:
    return Outcome(
        id, outcome.status, outcome.statuses, outcome.outputs, outcome.error, outcome.cpu_ms,
        outcome.inputs,
    )  # fmt: skip


__all__ = ["Sandbox", "SandboxUnavailable"]
