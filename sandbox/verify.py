"""The task checker: was an answer right? Used in training and by ``azr verify``.

The gold answer stays in this process. A deduction answer is compared as literal data and runs
nothing; an abduction answer is parsed as literal arguments, given to the program, and the result
compared here; an induction answer is a program, run on the hidden inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sandbox import jsonl
from sandbox.box import Sandbox
from sandbox.jobs import Job, Outcome, Status
from sandbox.literals import LiteralError, equal, parse_arguments, parse_value

Answers = Literal["literal", "expression"]
_IDENTITY = "def f(*values):\n    return values[0] if len(values) == 1 else values\n"


class TaskError(ValueError):
    """A task that is malformed by itself, whatever the answer."""


class Verdict(NamedTuple):
    """Whether the answer is right, and what became of running it (INFRA: do not score it)."""

    correct: bool
    status: Status


@dataclass(frozen=True, slots=True)
class Task:
    """One task with its answer; `input` and `inputs` are argument text, outputs literal text."""

    task: Literal["deduction", "abduction", "induction"]
    answer: str
    program: str = ""
    input: str = ""
    output: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    entry: str = "f"


class Verifier:
    """Checks answers in a sandbox.

    Args:
        box: where programs run.
        answers: ``"literal"``: an answer is data. ``"expression"``: it may be code and runs in
            the sandbox, for public benchmarks only: in training, an abduction answer that may
            run code knows the gold and could forge it.
        patience: factor on the time budgets, so that a program which was accepted near its limit
            does not time out later by noise.
    """

    def __init__(self, box: Sandbox, answers: Answers = "literal", patience: float = 2.0) -> None:
        self._box = box
        self._answers = answers
        limits = box.limits
        self._limits = replace(
            limits, cpu_s=limits.cpu_s * patience, wall_s=limits.wall_s * patience
        )

    def submit(self, task: Task) -> Future[Verdict]:
        """Check one answer; raises TaskError where the task itself is broken."""
        if task.task == "deduction":
            return self._deduction(task)
        if task.task == "abduction":
            return self._abduction(task)
        return self._induction(task)

    def run(self, tasks: Iterable[Task]) -> list[Verdict]:
        """The verdicts in the order of the tasks."""
        return [future.result() for future in [self.submit(task) for task in tasks]]

    def _deduction(self, task: Task) -> Future[Verdict]:
        gold = _gold(task.output)
        if self._answers == "expression":
            # Evaluated apart from the program: an answer that calls it is no prediction.
            return self._run(_IDENTITY, (task.answer,), (gold,), "f")
        try:
            return _done(Verdict(equal(gold, task.answer.strip()), Status.OK))
        except LiteralError:
            return _done(Verdict(False, Status.REJECTED))

    def _abduction(self, task: Task) -> Future[Verdict]:
        gold = _gold(task.output)
        arguments = task.answer.strip()
        if self._answers == "literal":
            try:
                arguments = parse_arguments(arguments)
            except LiteralError:
                return _done(Verdict(False, Status.REJECTED))
        return self._run(task.program, (arguments,), (gold,), task.entry)

    def _induction(self, task: Task) -> Future[Verdict]:
        if not task.inputs or len(task.inputs) != len(task.outputs):
            raise TaskError("as many outputs as inputs, and at least one, are needed")
        golds = tuple(_gold(output) for output in task.outputs)
        return self._run(task.answer, task.inputs, golds, task.entry)

    def _run(
        self, code: str, inputs: tuple[str, ...], golds: tuple[str, ...], entry: str
    ) -> Future[Verdict]:
        job = Job(code, inputs, entry, stop_at_failure=True, limits=self._limits)
        return _then(self._box.submit(job), lambda outcome: _judge(outcome, golds))


def task_from_json(fields: Mapping[str, Any]) -> Task:
    """A task from one line of a tasks file; raises TaskError naming what is wrong."""
    kind = fields.get("task")
    if kind not in ("deduction", "abduction", "induction"):
        raise TaskError('"task" is deduction, abduction or induction')
    texts = ["answer"] if kind == "induction" else ["answer", "output"]
    texts += ["program"] if kind == "abduction" else []
    for name in texts:
        if not isinstance(fields.get(name), str):
            raise TaskError(f'"{name}" has to be a string')
    lists: dict[str, tuple[str, ...]] = {"inputs": (), "outputs": ()}
    if kind == "induction":
        for name in lists:
            values = fields.get(name)
            if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
                raise TaskError(f'"{name}" has to be a list of strings')
            lists[name] = tuple(values)
        if not lists["inputs"] or len(lists["inputs"]) != len(lists["outputs"]):
            raise TaskError('as many "outputs" as "inputs", and at least one, are needed')
    entry = fields.get("entry", "f")
    if not isinstance(entry, str):
        raise TaskError('"entry" has to be a string')
    task = Task(
        kind, fields["answer"], str(fields.get("program") or ""), str(fields.get("input") or ""),
        str(fields.get("output") or ""), lists["inputs"], lists["outputs"], entry,
    )  # fmt: skip
    for gold in lists["outputs"] if kind == "induction" else (task.output,):
        _gold(gold)
    return task


def verify_file(
    tasks: Path, box: Sandbox, answers: Answers = "literal"
) -> Iterable[dict[str, object]]:
    """One ``{"id", "correct", "status"}`` per line of a tasks file, in order.

    Raises TaskError, before anything runs, where the file cannot be read or a line is no task;
    names the line.
    """
    try:
        lines = list(jsonl.lines(tasks))
    except OSError as error:
        raise TaskError(f"cannot read {tasks}: {error.strerror}") from error
    ids, parsed = [], []
    for number, line in lines:
        if not line.strip():
            continue
        try:
            fields = jsonl.parse(line)
            parsed.append(task_from_json(fields))
        except ValueError as error:
            raise TaskError(f"{tasks}, line {number}: {error}") from error
        ids.append(fields.get("id"))
    verdicts = Verifier(box, answers).run(parsed)
    return [
        {"id": id, "correct": verdict.correct, "status": verdict.status.value}
        for id, verdict in zip(ids, verdicts, strict=True)
    ]


def _judge(outcome: Outcome, golds: tuple[str, ...]) -> Verdict:
    if outcome.status is not Status.OK:
        return Verdict(False, outcome.status)
    try:
        right = all(
            output is not None and equal(gold, output)
            for gold, output in zip(golds, outcome.outputs, strict=True)
        )
    except LiteralError:
        return Verdict(False, Status.UNSUPPORTED)
    return Verdict(right, Status.OK)


def _gold(text: str) -> str:
    try:
        return parse_value(text)
    except LiteralError as error:
        raise TaskError(f"a gold output is not literal data: {error}") from error


def _done(verdict: Verdict) -> Future[Verdict]:
    future: Future[Verdict] = Future()
    future.set_result(verdict)
    return future


def _then(first: Future[Outcome], judge: Callable[[Outcome], Verdict]) -> Future[Verdict]:
    result: Future[Verdict] = Future()

    def pass_on(done: Future[Outcome]) -> None:
        try:
            result.set_result(judge(done.result()))
        except BaseException as error:  # reaches the caller through the future
            result.set_exception(error)

    first.add_done_callback(pass_on)
    return result
