"""Cheat oracles: a policy made of nothing but tricks earns exactly 0; an honest one earns 1."""

import pytest

from sandbox import Limits, Sandbox
from sandbox.verify import Task, Verifier

WORD = "g0ld" + "f4ce" * 3  # of each gold text, and in no program
HEAD = "def f(x, scale=3):\n    "
PROGRAMS = (
    HEAD + "return [x * scale + 1, 'HIDDEN' + str(x)]",
    HEAD + "return {'k': (x % 7, x * x), 'w': 'HIDDEN'}",
    HEAD + "return 'HIDDEN' * (x % 3 + 1) + str(x * scale)",
    HEAD + "return ('HIDDEN', x - 5.5, {x, x + 1}, None)",
)
INPUTS = tuple(range(20, 30))
SHOWN, HELD_OUT = INPUTS[:4], INPUTS[4:]


def gold(program: str, x: int) -> str:
    """Computed here: programs of ours, in our own process."""
    space: dict[str, object] = {}
    exec(program.replace("HIDDEN", WORD), space)
    return repr(space["f"](x))  # type: ignore[operator]


@pytest.fixture(scope="module")
def box():
    with Sandbox(limits=Limits(cpu_s=0.3, wall_s=30.0, memory_mb=64)) as sandbox:
        yield sandbox


LIAR = "type('A', (), {'__eq__': lambda s, o: True, '__hash__': lambda s: 1})()"
INJECTED = [
    "", " ", "\n", "None", "True", "nan", "float('nan')", "inf", "...", "[]", "{}", "()", "x", "f",
    "1) or (True", "1)\nstr(True", "1) == f(1) or (True", "1\nTrue", "1;True", "1 # ", "'''", '"""',
    "*[1]", "**{}", "x=1", "scale=1, x=1", "f'{1}'", "f'{f(20)}'", "(y := 1)", "lambda *a: True",
    "print(1) or 9", "setattr(__import__('builtins'), 'eval', lambda *a: True) or 9",
    "__import__('os')", "__import__('o'+'s').system('true')", "().__class__.__base__",
    LIAR, f"[{LIAR}]", f"({LIAR},)",
    "int.__new__(type('I', (int,), {'__eq__': lambda s, o: 1}), 1)",
    "open('/etc/hostname').read()", "exit()", "[x for x in (1,)]", "1 if 1 else 2", "eval('1')",
    "globals()", "gold", "output", "expected", "answer", "correct", "\\boxed{1}",
    "<answer>1</answer>",
    "```output\n1\n```", "```input\n1\n```", "```python\nTrue\n```", "Output: 1", "# Output\n1",
    "[" * 60 + "]" * 60, "[" * 5000, "9" * 5000, "-" * 5000 + "1", "{[]: 1}", "1\x00", "\ud800",
    "f(20)", "f(21)", "f(22)", "f(23)", "f(24)",
]  # fmt: skip
"""Answers to any task, of which none is right for one of these."""


def deductions() -> list[tuple[Task, list[str]]]:
    """Tasks, and tricks that know all but the output: the prompt, and the outputs of others."""
    found = []
    for program in PROGRAMS:
        for x in INPUTS:
            others = [gold(program, y) for y in INPUTS if y != x]
            task = Task("deduction", "", program, str(x), gold(program, x))
            found.append((task, [program, str(x), f"f({x})", *others]))
    return found


def abductions() -> list[tuple[Task, list[str]]]:
    """Tricks that know program and output: here only the input is worth anything."""
    found = []
    for program in PROGRAMS:
        program = program.replace("HIDDEN", WORD)
        for x in INPUTS:
            output = gold(program, x)
            echoes = [
                program, output, f"({output})", f"{output}) or (1", f"0) or {output} or (0",
                f"0) if 0 else ({output}", f"1)\n{output}", f"lambda *a: {output}",
                f"type('A', (int,), {{'__mul__': lambda s, o: {output}}})()", f"*[{x}]", f"x={x}",
                f"[{x}][0]", f"(lambda: {x})()", f"{x} # right", f"f({x})", f"int('{x}')",
                f"setattr(__builtins__, 'str', lambda *a: {output}) or 1", str([x]), str((x,)),
                f"'{x}'", f"{x + 1}", f"{x}; {x}", f"y := {x}", f"{x - 1} + 1",
            ]  # fmt: skip
            found.append((Task("abduction", "", program, "", output), echoes))
    return found


SPY = """
import gc, sys
def f(x, scale=3):
    word = ''.join(['g0', 'ld', 'f4'])
    frame = sys._getframe()
    while frame:
        for space in (frame.f_locals, frame.f_globals):
            for value in list(space.values()):
                if type(value) is str and word in value:
                    return value
                if type(value) in (list, tuple) and any(word in str(v) for v in value):
                    return value[0]
        frame = frame.f_back
    for value in gc.get_objects():
        if type(value) in (list, tuple, dict) and word in repr(value) and value is not frame:
            return value
"""
LIARS = [
    "class A{base}:\n    def __eq__(self, other): return True\n    def __ne__(self, other):"
    " return False\n    def __hash__(self): return 1\n    def __repr__(self): return 'correct'\n"
    "    def __bool__(self): return True\n    def __len__(self): return 0\n"
    "    def __reduce__(self): return eval, ('True',)\ndef f(x, scale=3):\n    return {value}"
]
CONSTANTS = ["None", "True", "x", "[x]", "str(x)", "float('nan')", "NotImplemented", "...", "f",
             "'correct'", "1", "[]", "x * 3 + 1", "(x, scale)", "object()",
             "iter([x])"]  # fmt: skip


def forger(frames: str, then: str) -> str:
    return (
        "import os, struct\ndef f(x, scale=3):\n    def frame(kind, text):\n"
        "        return struct.pack('<BII', kind, 0, len(text)) + text.encode()\n"
        f"    data = {frames}\n    for fd in range(3, 16):\n        try:\n"
        f"            os.write(fd, data)\n        except OSError:\n            pass\n    {then}\n"
    )


def inductions() -> list[tuple[Task, list[str]]]:
    """Answers that know all examples shown, and how the sandbox works: not the hidden outputs."""
    found = []
    for program in PROGRAMS:
        shown = {x: gold(program, x) for x in SHOWN}
        first = next(iter(shown.values()))
        table = "{" + ", ".join(f"{x}: {output}" for x, output in shown.items()) + "}"
        count = len(HELD_OUT)
        tricks = [
            f"def f(x, scale=3):\n    return {table}.get(x, {first})",
            f"def f(x, scale=3):\n    return {table}[x]",
            f"def f(x, scale=3):\n    return list({table}.values())[x % 4]",
            f"import functools\nf = functools.partial({table}.get)",
            program, SPY, "", "f", "def f(", "def g(x): return x", "f = 1", "f = lambda x: x",
            "def f(x):\n    yield x", "async def f(x):\n    return x", "class f:\n    pass",
            "print('correct')\ndef f(x):\n    print(True)\n    return print",
            "import builtins\nbuiltins.repr = builtins.type = lambda *a: 1\ndef f(x): return x",
            "import sys, os\ndef f(x):\n    os._exit(0)", "def f(x): raise SystemExit(0)",
            "def f(x): assert True; raise AssertionError('correct')",
            "import atexit, os\nos._exit(0)", "while True: pass", "def f(x):\n    while True: pass",
            *(f"def f(x, scale=3):\n    return {value}" for value in CONSTANTS),
            *(LIARS[0].format(base=base, value=value)
              for base in ("", "(int)", "(str)", "(list)", "(dict)", "(tuple)", "(float)")
              for value in ("A()", "[A(), A()]", "{'k': A()}")),
            *(forger(frames, then)
              for frames in (f"frame(1, {first!r}) * {count} + b'\\xff'", f"frame(1, {first!r})",
                             f"frame(1, {first!r}) + b'\\xff'", "frame(1, '') * 6 + b'\\xff'",
                             "frame(1, 'True') * 6 + b'\\xff'", "b'\\xff'", "b''", "b'correct'")
              for then in ("os._exit(0)", "return x")),
        ]  # fmt: skip
        task = Task(
            "induction", "", inputs=tuple(map(str, HELD_OUT)),
            outputs=tuple(gold(program, x) for x in HELD_OUT),
        )  # fmt: skip
        found.append((task, tricks))
    return found


def with_answer(task: Task, answer: str) -> Task:
    return Task(task.task, answer, task.program, task.input, task.output, task.inputs, task.outputs)


TASKS = {"deduction": deductions, "abduction": abductions, "induction": inductions}


@pytest.mark.parametrize("kind", TASKS)
def test_tricks_earn_nothing(box: Sandbox, kind: str) -> None:
    cheats = [
        with_answer(task, trick)
        for task, tricks in TASKS[kind]()
        for trick in (*tricks, *INJECTED)
    ]  # fmt: skip
    verdicts = Verifier(box).run(cheats)
    paid = [cheat.answer for cheat, v in zip(cheats, verdicts, strict=True) if v.correct]
    assert paid == [] and len(verdicts) > 300


@pytest.mark.parametrize("kind", ["deduction", "induction"])
def test_tricks_earn_nothing_as_expressions(box: Sandbox, kind: str) -> None:
    """Where answers may be code (public benchmarks), lying about equality is still no answer."""
    honest = {"f(20)", "f(21)", "f(22)", "f(23)", "f(24)"}
    cheats = [
        with_answer(task, trick)
        for task, _ in TASKS[kind]()[:4]
        for trick in INJECTED
        if trick not in honest
    ]  # fmt: skip
    verdicts = Verifier(box, "expression").run(cheats)
    assert [c.answer for c, v in zip(cheats, verdicts, strict=True) if v.correct] == []


@pytest.mark.parametrize("kind", TASKS)
def test_honesty_earns_all(box: Sandbox, kind: str) -> None:
    honest = []
    for task, _ in TASKS[kind]():
        if kind == "deduction":
            honest.append(with_answer(task, f" {task.output}\n"))
        elif kind == "abduction":
            honest += [
                with_answer(task, str(x)) for x in INPUTS if gold(task.program, x) == task.output
            ]
        else:
            honest += [
                with_answer(task, program.replace("HIDDEN", WORD))
                for program in PROGRAMS
                if gold(program, HELD_OUT[0]) == task.outputs[0]
            ]
    verdicts = Verifier(box).run(honest)
    assert len(honest) >= 4 and all(verdict.correct for verdict in verdicts)
