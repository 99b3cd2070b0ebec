"""The static filter: what it lets through, what it names, and that hostile text cannot hurt it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.policy import PolicyConfig, check_program

DEFAULT = PolicyConfig()
PARITY = PolicyConfig.parity()


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return x",
        "from __future__ import annotations\nfrom typing import List\n"
        "def g(x: int) -> int:\n    return x\ndef f(x: List[int]) -> int:\n    return g(x[0])",
        "import math, collections.abc\nclass A:\n    def __init__(self, x):\n"
        "        super().__init__()\n        self.x = x\ndef f(x):\n    return A(x).x",
        "f = lambda x: x + 1",
        "def f(x):\n    def g():\n        yield 1\n    return list(g())",
        "def f(time):\n    return time",
        "def f(x):\n    return x\nif __name__ == '__main__':\n    print(f(1))",
        "def f(x):\n    return getattr(x, 'real')",
        "def f(input, *vars, open=1, **exit):\n    return [input for _ in vars], open, exit",
        "def f(x):\n    return (lambda input: input + 1)(x)",
        "def f(input):\n    def g(y):\n        return input + y\n    return g(1)",
        "def f(a):\n    input = a + 1\n    return input",
        "def f(a):\n    for input in a:\n        pass\n    return input, [open for open in a]",
        "def f(a):\n    with a as vars:\n        exit, *quit = vars\n    return exit, quit",
        "def f(a):\n    if (input := a):\n        return input",
        "def f(a):\n    match a:\n        case [input, *vars]:\n            return input, vars",
        "def f(a):\n    input = a\n    return [input for _ in a], lambda: input",
        "def eval(a):\n    return a\nlicense = 3\ndef f(a):\n    return eval(a) + license",
        "def f(a):\n    def compile(b):\n        return b\n    return compile(a)",
        "input = 1\nx = input + 1\ndef f(a):\n    return x",
        "class A:\n    input = 1\ndef f(a):\n    return A.input",
        "class A:\n    def input(self):\n        return 1\ndef f(a):\n    return A().input()",
    ],
)
def test_good(code):
    assert check_program(code, DEFAULT) is None


@pytest.mark.parametrize(
    "body",
    [
        "import os", "import os.path", "from os import path", "import sys as s", "import shutil",
        "from random import choice", "import concurrent.futures", "from . import x",
        "__import__('random')", "open('x')", "eval('1')", "exec('1')", "compile('1', '', 'eval')",
        "input()", "globals()", "().__class__", "x = open", "__builtins__", "getattr(1, 'a' + 'b')",
        "getattr(1, '__class__')", "import importlib", "(x for x in y).gi_frame",
    ],
)  # fmt: skip
def test_banned(body):
    code = f"def f(x):\n    {body}\n    return x"
    assert check_program(code, DEFAULT) is not None


@pytest.mark.parametrize(
    "code",
    [
        "def g(eval):\n    return eval\ndef f(x):\n    return eval(x)",
        "def f(x, y=open):\n    return x",
        "def f(open=open):\n    return open",
        "def f(x):\n    return (lambda eval: 1)(eval)",
        "def g(x):\n    eval = x\n    return eval\ndef f(x):\n    return eval(x)",
        "def f(x):\n    b = [open for open in x]\n    return open(b)",
        "def f(x):\n    return [open for open in open(x)]",
        "def f(x):\n    return {a: 1 for a in [1] for b in open(x)}",
        "open = open\ndef f(x):\n    return 1",
        "x = open('x')\nopen = 1\ndef f(x):\n    return 1",
        "if 0:\n    open = 1\ndef f(x):\n    return open(x)",
        "class A:\n    open = 1\n    def g(self):\n        open('x')\ndef f(x):\n    return 1",
        "def f(x):\n    global open\n    open = 1\n    return open(x)",
        "def f(x, open=lambda: open('x')):\n    return 1",
        "__import__ = 1\ndef f(x):\n    return x",
    ],
)
def test_a_name_of_its_own_hides_a_builtin_in_its_scope_only(code):
    assert "uses" in (check_program(code, DEFAULT) or "")


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("def g(x): pass", "no function"),
        ("async def f(x): pass", "coroutine"),
        ("def f(x):\n    yield 1", "generator"),
        ("class f: pass", "class"),
        ("def f(x:", "parse"),
        ("x = " + "(" * 100 + ")" * 100, "nested"),
        ("x = " + "-" * 100000 + "1", ""),
        ("x = " + "not " * 1000 + "1", "nested"),
        ("x = " + "1+" * 5000 + "1", ""),
        ("x = a" + ".b" * 8000, ""),
        ("\0", "parse"),
        ("x" * 100000, "longer"),
    ],
)
def test_reasons(code, word):
    reason = check_program(code, DEFAULT)
    assert reason is not None and word in reason


def test_dotted_entries_match():
    policy = PolicyConfig(banned_modules=frozenset({"os.path", "sys.exit"}), dunders=True)
    for body in (
        "import os.path",
        "from os import path",
        "from os.path import join",
        "sys.exit(1)",
    ):
        assert check_program(f"def f():\n    {body}", policy) is not None
    assert check_program("import os\ndef f(): return 1", policy) is None


def test_parity_keeps_the_holes():
    for body in ("import os", "import os.path", "__import__('random')", "open('x')", "import sys"):
        assert check_program(f"{body}\ndef f(): return 1", PARITY) is None
    for body in ("import random", "from datetime import date", "import xml.time"):
        assert check_program(f"{body}\ndef f(): return 1", PARITY) is not None


@given(st.text(max_size=300))
def test_never_raises(code):
    check_program(code, DEFAULT)
