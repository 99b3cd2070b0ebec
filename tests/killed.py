"""`azr train` that kills itself, as `kill -9` does: python killed.py REPORT MOMENT DIRECTORY FLAG…

A MOMENT is NAME:WHEN:NUMBER:SECONDS. NAME is of POINTS, or `file`: a change that Python makes in
DIRECTORY, on any thread. Its call NUMBER counts; WHEN is `call` (before it) or `return`; SECONDS
pass from there to the kill. NUMBER 0 is never. With `pause` for SECONDS it does not die: the file
`paused` appears beside REPORT, and that thread waits until it is gone. A process that lives to its
end writes to REPORT how often each NAME was called. Beside REPORT lies `tasks.jsonl`, the benchmark
that is measured on.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

POINTS = {
    "propose": "azr_jax.selfplay.play:SelfPlay.submit_proposal",
    "answer": "azr_jax.selfplay.play:SelfPlay.submit_answer",
    "measure": "azr_jax.evals.heldout:evaluate",
    "sample": "azr_jax.run:Run.sample",
    "pack": "azr_jax.run:Run.pack",
    "update": "azr_jax.run:Run.update",
    "log": "azr_jax.run:Run.log",
    "append": "azr_jax.report.metrics:SegmentWriter.append",
    "seal": "azr_jax.report.metrics:SegmentWriter.seal",
    "save": "azr_jax.learn.checkpoint:Checkpoints.save",
    "restore": "azr_jax.learn.checkpoint:Checkpoints.restore_latest",
}
CHANGES = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove")


class Killer:
    """Counts what it is shown, and kills this process when its moment has come."""

    def __init__(self, moment: str, pause: Path) -> None:
        self._name, self._when, number, self._seconds = moment.split(":")
        self._number, self._pause = int(number), pause
        self.counts: Counter[str] = Counter()

    def seen(self, name: str, when: str) -> None:
        if when == "call":
            self.counts[name] += 1
        if (name, when, self.counts[name]) == (self._name, self._when, self._number):
            if self._seconds == "pause":
                self._pause.touch()
                while self._pause.exists():
                    time.sleep(0.01)
            elif seconds := float(self._seconds):
                threading.Timer(seconds, kill).start()
            else:
                kill()

    def watch(self, name: str) -> None:
        """Puts itself around the function of that name."""
        module, _, path = POINTS[name].partition(":")
        owner: Any = importlib.import_module(module)
        *outer, last = path.split(".")
        for part in outer:
            owner = getattr(owner, part)
        setattr(owner, last, self._around(name, getattr(owner, last)))

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.seen(name, "call")
            result = function(*args, **kwargs)
            self.seen(name, "return")
            return result

        return watched

    def audit(self, directory: str) -> Callable[[str, tuple[Any, ...]], None]:
        """A hook that sees every change of a file in `directory`, just before it is made."""

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if event not in CHANGES or not isinstance(args[0], str | os.PathLike):
                return
            if event == "open" and not (isinstance(args[2], int) and args[2] & os.O_CREAT):
                return
            if os.fspath(args[0]).startswith(directory):
                self.seen("file", "call")

        return hook


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    report, moment, directory, *flags = sys.argv[1:]
    killer = Killer(moment, Path(report).with_name("paused"))
    for name in POINTS:
        killer.watch(name)
    sys.addaudithook(killer.audit(directory))

    from azr_jax import cli
    from azr_jax.evals.harness import BENCHMARKS

    BENCHMARKS.update(dict.fromkeys(BENCHMARKS, Path(report).parent / "tasks.jsonl"))
    code = cli.main(["train", "--run_dir", directory, *flags])
    Path(report).write_text(json.dumps(killer.counts))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
