"""What a program finds imported, and the warm-up that each child then need not pay for.

A child can open no file, so this list *is* the import allowlist. Every page of it costs every fork
some time, which is why most programs run in zygotes that have loaded `LEAN` only.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys

from sandbox.child import harness

LEAN = (
    "__future__", "abc", "bisect", "collections", "collections.abc", "contextlib", "copy", "enum",
    "functools", "heapq", "itertools", "keyword", "math", "operator", "re", "string", "types",
    "typing",
)  # fmt: skip
"""What nearly all programs make do with: nine of ten that models write import nothing else."""

MODULES = (
    "__future__", "abc", "array", "base64", "binascii", "bisect", "calendar", "cmath",
    "collections", "collections.abc", "colorsys", "contextlib", "copy", "csv", "dataclasses",
    "datetime", "decimal", "difflib", "enum", "fnmatch", "fractions", "functools", "graphlib",
    "hashlib", "heapq", "html", "html.parser", "io", "ipaddress", "itertools", "json",
    "keyword", "locale", "math", "numbers", "operator", "os", "pickle", "pprint", "queue",
    "random", "re", "shlex", "statistics", "string", "struct", "sys", "textwrap", "threading",
    "time", "timeit", "traceback", "types", "typing", "unicodedata", "urllib.parse", "uuid",
    "warnings", "weakref", "xml.etree.ElementTree", "zlib",
    # loaded lazily by the ones above, and by the interpreter itself
    "_strptime", "_decimal", "_pydecimal", "_pydatetime", "_tokenize", "_md5", "_sha1", "_sha2",
    "_sha256", "_sha512", "_sha3", "_blake2", "stringprep", "copyreg", "linecache", "tokenize",
    "_compat_pickle", "_multibytecodec", "html.entities", "xml.etree.ElementPath",
    "xml.parsers.expat",
)  # fmt: skip
"""Beside them every codec: see `preload`."""

_PROGRAM = '''
from __future__ import annotations
import collections, functools, math, re, string
from collections import Counter, defaultdict, deque
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

class Point:
    def __init__(self, x: int, y: int = 0):
        self.x = x

class Node:
    def __init__(self, value, left=None):
        self.value, self.left = value, left

@functools.lru_cache(None)
def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def words(text: str):
    for word in re.findall("[a-z]+", text):
        yield word.upper()

def f(a: int, b: List[int] = ()) -> Dict[str, Any]:
    """Touch what programs touch."""
    counts = Counter("hello"); groups = defaultdict(list); line = deque([1, 2])
    line.appendleft(0)
    with_squares = {k: v * v for k, v in counts.items()}
    try:
        raise KeyError("k")
    except (KeyError, ValueError) as e:
        groups[str(e)].append(1)
    i = 0
    while i < 3:
        i += 1
    assert i == 3, "three"
    total = sum(x * 2.5 for x in line if x is not None)
    return {"a": [a, sorted(b, key=lambda v: -v)], "s": {1, 2}, "t": (total, None, True, b"x"),
            "w": list(words("a bc")), "p": Point(1, 2).x, "fib": fib(10), "n": Node(1).value,
            "m": math.sqrt(2), "f": f"{total:.2f} {a!r}" + "%d" % a + "{:>5}".format(a),
            "q": with_squares, "z": list(zip([1], "a")), "k": string.ascii_letters[:3]}
'''


def preload(lean: bool) -> None:
    """Import what exists of `LEAN`, or of `MODULES` (an interpreter may be built without some).

    `threading` and `random` would register work for after each fork, worth 170 page faults a
    program. No thread can be started there, and two unseeded draws differ without a new seed.
    """
    register, os.register_at_fork = os.register_at_fork, lambda **hooks: None
    sys.modules["_uuid"] = None  # type: ignore[assignment]  # uuid does without it and its library
    try:
        names = LEAN if lean else (*MODULES, *_codecs())
        for name in names:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    finally:
        del sys.modules["_uuid"]
        os.register_at_fork = register


def _codecs() -> list[str]:
    """A text is encoded by a module that is imported when it is first asked for."""
    import encodings

    return [f"encodings.{found.name}" for found in pkgutil.iter_modules(encodings.__path__)]


def warm(lean: bool) -> None:
    """Run the child's whole path here once; its writes go to /dev/null, never to the parent."""
    null = os.open(os.devnull, os.O_WRONLY)
    cases: list[tuple[str, list[harness.Input]]] = [
        (_PROGRAM, [("1, [3, 1, 2]", True), ("int('7'), sorted({2, 1})", False), ("", True)]),
        ("def f(x):\n    return undefined(x)", [("'a'", True)]),
        ("def f(x:\n", [("1", True)]),
        ("def f(x): return x", [("[1, (2.5, {'k': {3}})], 1", True), ("1 +", False)]),
        ("def f(n): return f(n)", [("1", True)]),
        ("def f(x): return lambda: x", [("1", True)]),
        ("def f(x): return [1.5, x / 0]", [("0", True)]),
    ]  # fmt: skip
    rare: list[tuple[str, list[harness.Input]]] = [
        ("import dataclasses, datetime, json, decimal, fractions, statistics, random\n"
         "@dataclasses.dataclass\nclass Point:\n    x: int\n    y: int = 0\n"
         "def f(x):\n    Point(1)\n"
         "    datetime.datetime.strptime('2020-01-02', '%Y-%m-%d').strftime('%A')\n"
         "    json.loads(json.dumps({'a': [1, 2.5, None]}))\n"
         "    decimal.Decimal(1) / 3; fractions.Fraction(1, 3) + 1\n"
         "    random.Random(1).random(); 'é'.encode('latin-1'); 'x'.encode('utf-16')\n"
         "    return statistics.mean([1, 2, 3])", [("1", True)]),
        ("import missing_module\ndef f(): return 1", [("", True)]),
    ]  # fmt: skip
    for code, inputs in cases if lean else cases + rare:
        harness.run(code, "f", inputs, 2, 65536, 64, null, None)
    os.close(null)
