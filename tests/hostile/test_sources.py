"""Program texts that an editor would not write."""

import pytest

from sandbox import Job, Limits, Sandbox, Status
from sandbox.policy import PolicyConfig, check_program

LIMITS = Limits(cpu_s=1.0, wall_s=60.0, memory_mb=64)
BAD = {Status.RAISED, Status.CRASHED, Status.OOM, Status.UNSUPPORTED}


@pytest.fixture(scope="module")
def box():
    with Sandbox(limits=LIMITS, workers=2, cache_size=0) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    "code",
    [
        "\ufeffdef f():\n    return 1",
        "def f():\r\n    return 1\r\n",
        "def f():\r    return 1\r",
        "def f():\n\x0c    return 1",
        "\x0cdef f():\n\tif 1:\n\t\treturn 1",
        "# coding: rot13\ndef f():\n    return 1",
        "# -*- coding: utf-16 -*-\ndef f():\n    return 1",
        "# coding: no-such-thing\ndef f():\n    return 1",
        "def f():\n    return 1\n\\\n",
        "def f():\n    return 1 # \u2028 \u2029 \u202e",
    ],
)
def test_source(box: Sandbox, code: str) -> None:
    (outcome,) = box.run([Job(code, ("",))])
    assert outcome.outputs == ("1",) or outcome.status is Status.RAISED
    after = box.run([Job("def f(): return 2", ("",))])[0]
    assert after.outputs == ("2",)


@pytest.mark.parametrize(
    "code",
    [
        "def f(): return '\ud800'", "\ud800", "x\0 = 1", "\0", "def f():\n    return 1\0",
        "def f():\n\treturn 1\n        return 2", "\xa0def f(): return 1", "(" * 5000,
        "-" * 100_000 + "1", "f" * 1_000_000 + "(", "\x1a", "lambda:" * 20_000 + "1",
        "x = " + "[" * 150 + "]" * 150 + ".a" * 50_000, "'''" + "a" * 1_000_000,
    ],
)  # fmt: skip
def test_no_program(box: Sandbox, code: str) -> None:
    (outcome,) = box.run([Job(code, ("1",))])
    assert outcome.status in BAD and outcome.outputs == (None,)


def test_a_megabyte_on_one_line(box: Sandbox) -> None:
    flat = "def f(): return len([" + "1," * 500_000 + "])"
    nested = "def f(): return 1" + "+1" * 500_000
    texts = "def f(): return len(" + repr("a" * 1_000_000) + ")"
    outcomes = box.run([Job(code, ("",)) for code in (flat, nested, texts)])
    assert outcomes[0].outputs in (("500000",), (None,)) and outcomes[0].status is not Status.INFRA
    assert outcomes[1].status in BAD | {Status.TIMEOUT}
    assert outcomes[2].outputs == ("1000000",)


@pytest.mark.parametrize(
    "body",
    [
        "import datetime", "from datetime import date", "import time", "import calendar",
        "ｅval('1')", "ｏpen('x')", "__ｉmport__('os')", "import ｏs", "().__ｃlass__",
        "import \U0001d428\U0001d42c", "𝐞𝐱𝐞𝐜('1')",
    ],
)  # fmt: skip
def test_clock_and_look_alikes_are_banned(body: str) -> None:
    """The compiler reads NFKC: the policy has to read the same."""
    code = f"def f(x):\n    {body}\n    return x"
    compile(code, "x", "exec")
    assert check_program(code, PolicyConfig()) is not None
