"""``python -m sandbox run JOBS.jsonl [--out FILE] | probe | bench``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from sandbox import bench, jsonl, probe
from sandbox.box import Sandbox
from sandbox.jobs import Job, Limits, Outcome, SandboxUnavailable, Status


class InputError(ValueError):
    """The user's file cannot be read, or an argument makes no sense: exit code 2."""


def main(argv: list[str] | None = None) -> int:
    """0: done; 2: bad input, one line on standard error; 1: anything else."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the jobs of a JSONL file")
    run.add_argument("jobs", type=Path, metavar="JOBS.jsonl")
    run.add_argument("--out", type=Path)
    run.add_argument("--cpu_s", type=float, default=Limits().cpu_s)
    run.add_argument("--memory_mb", type=int, default=Limits().memory_mb)
    for command in (run, commands.add_parser("probe", help="what this machine can wall off")):
        command.add_argument("--level", type=int, choices=(1, 2, 3), default=2)
    commands.add_parser("bench", help="programs per second and CPU per program, here and now")
    args = parser.parse_args(argv)
    try:
        if args.command == "run":
            _run(args)
        elif args.command == "probe":
            _probe(args.level)
        else:
            bench.main()
    except (InputError, SandboxUnavailable) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    ids, jobs = read_jobs(args.jobs)
    try:
        limits = Limits(
            cpu_s=args.cpu_s, wall_s=max(10.0, 10 * args.cpu_s), memory_mb=args.memory_mb
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    out: TextIO = sys.stdout
    try:
        if args.out is not None:
            out = args.out.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{args.out}: {error.strerror}") from error
    try:
        with Sandbox(limits=limits, level=args.level) as box:
            futures = [box.submit(job) if isinstance(job, Job) else job for job in jobs]
            for id, future in zip(ids, futures, strict=True):
                outcome = future if isinstance(future, Outcome) else future.result()
                out.write(json.dumps(_line(id, outcome)) + "\n")
    finally:
        if out is not sys.stdout:
            out.close()


def read_jobs(path: Path) -> tuple[list[Any], list[Job | Outcome]]:
    """The ids as written, and per line a job, or the outcome REJECTED of what is none.

    Raises InputError where the file cannot be read.
    """
    ids: list[Any] = []
    jobs: list[Job | Outcome] = []
    try:
        lines = list(jsonl.lines(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    for number, line in lines:
        if not line.strip():
            continue
        fields: dict[str, Any] = {}
        try:
            fields = jsonl.parse(line)
            jobs.append(_job(fields))
        except ValueError as error:
            reason = f"line {number} is no job: {error}"
            jobs.append(Outcome("", Status.REJECTED, (), (), reason, 0.0, ()))
        ids.append(fields.get("id"))
    return ids, jobs


def _job(fields: dict[str, Any]) -> Job:
    code, inputs = fields.get("code"), fields.get("inputs")
    entry, deterministic = fields.get("entry"), fields.get("deterministic")
    if not isinstance(code, str):
        raise ValueError('"code" has to be a string')
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise ValueError('"inputs" has to be a list of strings')
    if not isinstance(entry, (str, type(None))):
        raise ValueError('"entry" has to be a string')
    if not isinstance(deterministic, (bool, type(None))):
        raise ValueError('"deterministic" has to be true or false')
    return Job(code, tuple(inputs), entry or "f", bool(deterministic))


def _line(id: Any, outcome: Outcome) -> dict[str, Any]:
    return {
        "id": id,
        "status": outcome.status.value,
        "statuses": [status.value for status in outcome.statuses],
        "outputs": list(outcome.outputs),
        "error": outcome.error,
        "cpu_ms": outcome.cpu_ms,
    }


def _probe(level: int) -> None:
    with Sandbox(level=level) as box:
        for name, got in probe.report(box).items():
            print(f"{name:24} {got}")
    print(f"level {level} holds")


if __name__ == "__main__":
    sys.exit(main())
