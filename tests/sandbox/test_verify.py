"""The task checker: right answers pass, tricks do not, our failures are not wrong answers."""

import json
from concurrent.futures import Future

import pytest

from sandbox import Limits, Outcome, Sandbox, Status
from sandbox.verify import Task, TaskError, Verifier, task_from_json, verify_file

PROGRAM = "def f(a, b=0):\n    return [a, b]"
TRICKS = ["1) or (True", "1)\nstr(True", "__import__('os')", "*[1]", "(lambda: 1)()", "A()", "1 #"]


@pytest.fixture(scope="module")
def box():
    with Sandbox(limits=Limits(cpu_s=0.2, memory_mb=64), workers=2) as sandbox:
        yield sandbox


def check(box, answers="literal", **fields):
    return Verifier(box, answers).run([Task(**fields)])[0]


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("[1, 2]", " [1,2]\n", (True, Status.OK)),
        ("1", "1.0", (True, Status.OK)),
        ("{1: 2, 3: 4}", "{3: 4,\n 1: 2}", (True, Status.OK)),
        ("1", "2", (False, Status.OK)),
        ("2", "1 + 1", (False, Status.REJECTED)),
        ("float('nan')", "float('nan')", (False, Status.OK)),
    ],
)
def test_deduction(box, gold, answer, verdict):
    assert check(box, task="deduction", output=gold, answer=answer) == verdict


def test_abduction(box):
    def ask(answer, answers="literal", program=PROGRAM):
        return check(
            box, answers, task="abduction", program=program, output="[1, 2]", answer=answer
        )

    assert ask("1, 2") == (True, Status.OK)
    assert ask("1.0,\n2") == (True, Status.OK)
    assert ask("1") == (False, Status.OK)
    assert ask("") == (False, Status.RAISED)
    assert ask("1, [x for x in (2,)][0]") == (False, Status.REJECTED)
    assert ask("1, [x for x in (2,)][0]", "expression") == (True, Status.OK)
    assert ask("1", program="def f(a):\n    while 1: pass") == (False, Status.TIMEOUT)


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_score_nothing(box, trick):
    identity = "def f(a):\n    return a"
    for fields in (
        {"task": "abduction", "program": identity, "output": "7"},
        {"task": "deduction", "program": identity, "input": "7", "output": "7"},
    ):
        assert check(box, answer=trick, **fields) == (False, Status.REJECTED)


def test_induction(box):
    pairs = {"inputs": ("1", "2"), "outputs": ("[1, 0]", "[2, 0]")}
    assert check(box, task="induction", answer=PROGRAM, **pairs) == (True, Status.OK)
    shown = "def f(a):\n    return [1, 0]"
    assert check(box, task="induction", answer=shown, **pairs) == (False, Status.OK)
    liar = "class A(list):\n    __eq__ = lambda s, o: True\ndef f(a): return A()"
    assert check(box, task="induction", answer=liar, **pairs) == (False, Status.UNSUPPORTED)
    assert check(box, task="induction", answer="def f(", **pairs) == (False, Status.RAISED)


def test_gold_expression_mode_of_deduction(box):
    fields = {"task": "deduction", "program": PROGRAM, "output": "[1, 2]"}
    assert check(box, "expression", answer="[1] + [2]", **fields) == (True, Status.OK)
    assert check(box, "expression", answer="f(1, 2)", **fields) == (False, Status.OK)


def test_infra_is_passed_through():
    class Broken:
        limits = Limits()

        def submit(self, job):
            future = Future()
            future.set_result(
                Outcome("", Status.INFRA, (Status.INFRA,), (None,), "x", 0.0, (None,))
            )
            return future

    verdict = check(Broken(), task="abduction", program=PROGRAM, output="1", answer="1")
    assert verdict == (False, Status.INFRA)


def test_file(box, tmp_path):
    path = tmp_path / "tasks.jsonl"
    lines = [
        {
            "id": 1,
            "task": "deduction",
            "program": PROGRAM,
            "input": "1",
            "output": "2",
            "answer": "2",
        },
        {"id": "b", "task": "abduction", "program": PROGRAM, "output": "[1, 0]", "answer": "1"},
        {"id": "c", "task": "induction", "inputs": ["1"], "outputs": ["[1, 0]"], "answer": PROGRAM},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(verify_file(path, box)) == [
        {"id": id, "correct": True, "status": "OK"} for id in (1, "b", "c")
    ]
    path.write_text(json.dumps(lines[0]) + "\n{}\n")
    with pytest.raises(TaskError, match="line 2"):
        verify_file(path, box)


def test_broken_tasks():
    good = {"task": "deduction", "output": "1", "answer": "1"}
    assert task_from_json(good).output == "1"
    for change in ({"task": "x"}, {"output": "f(x)"}, {"output": None}, {"answer": 1}):
        with pytest.raises(TaskError):
            task_from_json({**good, **change})
    with pytest.raises(TaskError):
        task_from_json({"task": "induction", "answer": "", "inputs": ["1"], "outputs": []})
