"""Lean and full zygotes: which is asked first is a matter of speed, never of the verdict."""

import pytest

from sandbox import Job, Limits, Sandbox
from sandbox.lean import is_lean


@pytest.fixture(scope="module")
def box():
    with Sandbox(limits=Limits(cpu_s=1.0, wall_s=30.0, memory_mb=64), cache_size=0) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    "code",
    [
        "def f(x): return x",
        "import math, re\nfrom collections import Counter as C\ndef f(x): return math.gcd(x, 4)",
        "from typing import (\n    Any, List)\nclass A:\n    def __init__(self): self.x = 1",
        "import collections.abc\ndef f(important): return important",
    ],
)
def test_most_programs_are_lean(code):
    assert is_lean(code)


@pytest.mark.parametrize(
    "code",
    [
        "import decimal", "import math, json", "from datetime import date", "import no_such_module",
        "def f(x):\n    import random as r", "m = __import__('math')", "import sys",
        "def f(x): return getattr(x, 'a')", "f = ().__class__", "eval('1')", "import math as m, os",
    ],
)  # fmt: skip
def test_the_rest_is_not(code):
    assert not is_lean(code)


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("import decimal\ndef f(x): return str(decimal.Decimal(x) / 8)", "'0.125'"),
        ("def f(x): return __import__('date' + 'time').date(2020, 1, x).isoformat()",
         "'2020-01-01'"),
        ("import importlib\ndef f(x): return importlib.import_module('js' + 'on').dumps([x])",
         "'[1]'"),
        ("def f(x): return bytes([x]).hex() + 'é'.encode('utf-16').hex()", "'01fffee900'"),
        ("try:\n    import numpy as np\nexcept ImportError:\n    np = None\ndef f(x): return np",
         "None"),
        ("import functools\n@functools.singledispatch\ndef f(x): return x", "1"),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
         "def f(x): return A(x).x", "1"),
    ],
)  # fmt: skip
def test_a_lean_zygote_that_lacks_a_module_is_no_verdict(box, code, output):
    jobs = [Job(code, ("1", "1"), deterministic=deterministic) for deterministic in (False, True)]
    futures = [box.submit_to(job, lean) for job in jobs for lean in (True, False, None)]
    outcomes = [future.result() for future in futures]
    assert {o.outputs for o in outcomes} == {(output, output)}
    assert box.stats()["CRASHED"] == 0


def test_no_module_after_an_input_that_was_fine(box):
    code = "def f(x):\n    if x == 2: import decimal\n    if x == 3: import no_such\n    return x"
    outcome = box.submit_to(Job(code, ("1", "2", "3", "4")), True).result()
    assert outcome.outputs == ("1", "2", None, "4")
    assert outcome.error == "ModuleNotFoundError: No module named 'no_such'"


def test_an_exit_that_looks_like_a_want_is_a_crash(box):
    """In a full zygote the code means nothing."""
    code = "import os\ndef f(x): os._exit(96)"
    assert {box.submit_to(Job(code, ("1",)), lean).result().status for lean in (True, False)} == {
        "CRASHED"
    }


def test_expressions_count_as_code(box):
    before = box.stats()["forks"]
    (outcome,) = box.run([Job("def f(x): return x", ("__import__('json').dumps(1)",))])
    assert outcome.outputs == ("'1'",) and box.stats()["forks"] == before + 1
