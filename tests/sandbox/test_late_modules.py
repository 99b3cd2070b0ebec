"""What Python loads at first use is there, although a child can open no file."""

from __future__ import annotations

import ast
import encodings
import encodings.aliases
import gzip
import importlib.util
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Job, Limits, Sandbox, Status, literals

ROOT = Path(__file__).resolve().parents[2]
CRUXEVAL = ROOT.parent / "shared" / "data" / "eval" / "cruxeval.jsonl.gz"

LEFT_OUT = {
    # What runs a module from a shell, or tests it.
    *("argparse", "doctest", "getopt", "optparse", "_colorize", "_pyrepl"),
    # Users, files, networks, other processes and threads: a child has none of them.
    *("pwd", "grp", "socket", "shutil", "plistlib", "tracemalloc", "concurrent.futures.process"),
    *("concurrent.futures.thread", "_winapi", "winreg", "tempfile", "subprocess", "ctypes"),
    # Other systems' codecs, and what finds packages on disk.
    *("encodings.mbcs", "encodings._win_cp_codecs", "importlib.metadata", "importlib.readers"),
    "importlib.resources.readers",
}
"""docs/sandbox.md says the same in words."""


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(limits=Limits(cpu_s=10.0, wall_s=600.0, memory_mb=256)) as box:
        yield box


# --- codecs ------------------------------------------------------------------------------------

ENCODE = """
def f(names):
    found = {}
    for name in names:
        try:
            data = "aé日本".encode(name, "replace")
            found[name] = data, data.decode(name, "replace")
        except Exception as error:
            found[name] = type(error).__name__
    return found
"""


def codecs() -> list[str]:
    modules = [found.name for found in pkgutil.iter_modules(encodings.__path__)]
    return sorted({*modules, *encodings.aliases.aliases, "utf-16-le", "no such codec"})


def test_every_codec_encodes_as_in_a_plain_interpreter(box: Sandbox) -> None:
    names = codecs()
    space: dict[str, object] = {}
    exec(ENCODE, space)
    expected = space["f"](names)  # type: ignore[operator]
    [outcome] = box.run([Job(ENCODE, (repr(names),))])
    assert outcome.status is Status.OK, outcome.error
    assert literals.value_of(str(outcome.outputs[0])) == expected
    assert sum(isinstance(v, tuple) for v in expected.values()) > 300


@pytest.mark.parametrize("name", ["shift_jis", "utf-16-le", "cp437", "idna", "gb18030"])
def test_a_codec_is_found_by_a_program_that_imports_nothing(box: Sandbox, name: str) -> None:
    [outcome] = box.run([Job("def f(text, name): return text.encode(name)", (f"'abc', '{name}'",))])
    assert outcome.outputs == (repr("abc".encode(name)),)


# --- modules -----------------------------------------------------------------------------------

LOADED = """
import sys
from sandbox.child.preload import preload, warm
preload(lean=False)
warm(lean=False)
for name, module in sorted(sys.modules.items()):
    print(name, getattr(module, "__file__", None))
"""


def imports_inside_functions(module: str, path: str) -> Iterator[str]:
    """Absolute names that functions of a module import when they run."""
    for function in ast.walk(ast.parse(Path(path).read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_what_allowed_modules_import_late_is_loaded_or_listed() -> None:
    shown = subprocess.run(
        [sys.executable, "-S", "-s", "-P", "-c", f"import sys; sys.path[:0] = ['.']\n{LOADED}"],
        cwd=ROOT, text=True, capture_output=True, check=True,
    ).stdout  # fmt: skip
    loaded = dict(line.split(" ", 1) for line in shown.splitlines())
    late: dict[str, set[str]] = {}
    for module, path in loaded.items():
        if path.endswith(".py") and "/site-packages/" not in path and "/sandbox/" not in path:
            for name in imports_inside_functions(module, path):
                if name not in loaded and exists(name):
                    late.setdefault(name, set()).add(module)
    assert late.keys() <= LEFT_OUT, {k: v for k, v in late.items() if k not in LEFT_OUT}


def exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("import csv\ndef f(t): return list(csv.reader(t.split(';')))", "[['1', '2'], ['3']]"),
        ("from graphlib import TopologicalSorter as T\n"
         "def f(t): return list(T({1: {2}, 2: {3}}).static_order())", "[3, 2, 1]"),
        ("import ipaddress\ndef f(t): return str(ipaddress.ip_network('10.0.0.0/30')[1])",
         "'10.0.0.1'"),
        ("import xml.etree.ElementTree as E\n"
         "def f(t): return E.fromstring('<a><b c=\"1\"/></a>')[0].get('c')", "'1'"),
        ("import pickle\ndef f(t): return pickle.loads(pickle.dumps({1: [t]}))",
         "{1: ['1,2;3']}"),
        ("import shlex\ndef f(t): return shlex.split('a \"b c\"')", "['a', 'b c']"),
        ("import fnmatch\ndef f(t): return fnmatch.filter(['ab', 'b'], 'a*')", "['ab']"),
        ("import colorsys\ndef f(t): return colorsys.rgb_to_hsv(1, 0, 0)", "(0.0, 1.0, 1)"),
        ("from urllib.parse import quote\ndef f(t): return quote(t)", "'1%2C2%3B3'"),
        ("from html.parser import HTMLParser\ndef f(t): return HTMLParser().rawdata", "''"),
        ("import timeit\ndef f(t): return len(t)", "5"),
        ("import hashlib\ndef f(t): return [hashlib.new(n, b'a').digest_size for n in"
         " ('md5', 'sha1', 'sha256', 'sha3_512', 'blake2s')]", "[16, 20, 32, 64, 32]"),
        ("from datetime import datetime\n"
         "def f(t): return datetime.strptime('3 May 2021', '%d %B %Y').strftime('%j %A')",
         "'123 Monday'"),
        ("def f(t): return '\\N{GREEK SMALL LETTER ALPHA}' + t", "'α1,2;3'"),
        ("import copy, dataclasses\n@dataclasses.dataclass(order=True)\nclass A:\n    x: int\n"
         "def f(t): return dataclasses.asdict(copy.deepcopy(A(1)))", "{'x': 1}"),
        ("import inspect\ndef g(a, b=1): pass\ndef f(t): return str(inspect.signature(g))",
         "'(a, b=1)'"),
        ("import statistics\ndef f(t): return statistics.quantiles([1, 2, 3, 4], n=2)", "[2.5]"),
        ("import difflib\ndef f(t): return difflib.get_close_matches('appel', ['ape', 'apple'])",
         "['apple', 'ape']"),
        ("import json\ndef f(t): return json.dumps({'b': 1, 'a': [t]}, indent=1, sort_keys=True)",
         repr('{\n "a": [\n  "1,2;3"\n ],\n "b": 1\n}')),
    ],
)  # fmt: skip
def test_harmless_modules_work(box: Sandbox, code: str, output: str) -> None:
    [outcome] = box.run([Job(code, ("'1,2;3'",), deterministic=True)])
    assert (outcome.outputs, outcome.error) == ((output,), None)


@pytest.mark.parametrize("name", ["secrets", "socket", "asyncio", "tkinter", "numpy"])
def test_what_is_refused_is_not_to_be_had(box: Sandbox, name: str) -> None:
    [outcome] = box.run([Job(f"import {name}\ndef f(): return 1", ("",))])
    assert outcome.status is Status.RAISED and "No module named" in str(outcome.error)


# --- programs that others wrote ----------------------------------------------------------------


def test_every_program_of_cruxeval_gives_its_published_output(box: Sandbox) -> None:
    if not CRUXEVAL.exists():
        pytest.skip("no ../shared/data/eval/cruxeval.jsonl.gz beside the repository")
    with gzip.open(CRUXEVAL, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    outcomes = box.run([Job(row["code"], (row["input"],), deterministic=True) for row in rows])
    assert len(rows) == 800
    wrong = [
        (row["id"], outcome.status.name, outcome.outputs, row["output"])
        for row, outcome in zip(rows, outcomes, strict=True)
        if outcome.outputs[0] is None or not literals.equal(outcome.outputs[0], row["output"])
    ]
    assert wrong == []
