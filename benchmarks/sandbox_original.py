"""The original's executor, in shape: what `sandbox.py` is measured against. Standard library only.

    python sandbox_original.py [--timeout_s S] [--workers N] [--sequential] < batches.jsonl

Reads one JSON line ``[[program, [input, ...]], ...]`` per batch, runs it, and answers with one line
``{"wall_s", "cpu_s", "done"}``: wall seconds, null (the workers live on), and the number of
programs that gave a result. Every program is called twice on every input.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import pickle
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

Batch = list[tuple[str, list[str]]]
BANNED = frozenset(("logging", "random", "multiprocessing", "subprocess", "threading", "time"))
INPUT_CALL = re.compile(r"(\s|^)?input\(")


class Original:
    """The shape of the original's executor.

    A pool of persistent workers that exec every program in process, under an alarm. A verdict is
    one task: the program is parsed and searched for banned imports, a script that calls it twice
    is made and parsed, a worker execs all but its last line and evals that, checks that the result
    can be pickled, and sends it back. The pool is the standard library's, which took as long per
    task as the one of the original (pebble) when they were compared.

    Args:
        timeout_s: wall seconds; 10 as shipped.
        workers: processes; 1 as shipped.
        sequential: one verdict at a time, as all its callers ask for them, whatever the number of
            workers. Else its batch interface, which nothing there calls with more than one task.
        memory_mb: an address-space limit, which the original lacks: without it a memory bomb
            takes the machine.
    """

    def __init__(self, timeout_s: float, workers: int, sequential: bool, memory_mb: int) -> None:
        self.timeout_s = timeout_s
        self.workers = workers
        self.sequential = sequential
        self.memory_mb = memory_mb
        self.pool = self._start()

    def __call__(self, batch: Batch) -> int:
        """Run a batch; the number of programs all of whose inputs gave a result."""
        done = 0
        if self.sequential:
            for program, inputs in batch:
                done += sum(self._one(program, text) for text in inputs) == len(inputs)
            return done
        submitted = [[self._submit(program, text) for text in inputs] for program, inputs in batch]
        for futures in submitted:
            done += all(future.result()[1] == "Done" for future in futures)
        return done

    def _submit(self, program: str, text: str) -> Future[tuple[str, str]]:
        script = _script(program, text)
        return self.pool.submit(_execute, script, self.timeout_s)

    def _one(self, program: str, text: str) -> bool:
        """One verdict. A worker that the alarm does not stop is killed with its pool."""
        try:
            return self._submit(program, text).result(2 * self.timeout_s)[1] == "Done"
        except (TimeoutError, BrokenProcessPool):
            for process in list(self.pool._processes.values()):
                process.kill()
            self.pool.shutdown()
            self.pool = self._start()
            return False

    def _start(self) -> ProcessPoolExecutor:
        limit = self.memory_mb << 20
        return ProcessPoolExecutor(
            self.workers,
            initializer=resource.setrlimit,
            initargs=(resource.RLIMIT_AS, (limit,) * 2),
        )


def _script(program: str, text: str) -> list[str]:
    """Program, two calls, a check that they agree, and the result as the last line."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if BANNED.intersection(".".join(names).split(".")):
                raise ValueError("a banned import")
    script = (
        f"{program}\nreturned = f({text})\nif returned != f({text}):\n"
        "    raise Exception('not deterministic')\nrepr(returned)"
    )
    ast.parse(script)
    return script.split("\n")


def _execute(lines: list[str], timeout_s: float) -> tuple[str, str]:
    """In a worker: run the script, return the last line's value and a report."""
    scope: dict[str, Any] = {}
    try:
        source = "\n".join(lines[:-1])
        if INPUT_CALL.search(source):
            raise RuntimeError
        with _alarm(timeout_s):
            exec(source, scope)
        with _alarm(timeout_s):
            result = eval(lines[-1], scope)
        pickle.dumps(str(result))
        return result, "Done"
    except BaseException:
        return "", traceback.format_exc().split("\n")[-2]


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    """Serve batches on standard input and output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timeout_s", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sequential", action="store_true")
    parser.add_argument("--memory_mb", type=int, default=3072)
    run = Original(**vars(parser.parse_args()))
    for line in sys.stdin:
        batch = json.loads(line)
        started = time.monotonic()
        done = run(batch)
        row = {"wall_s": time.monotonic() - started, "cpu_s": None, "done": done}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
