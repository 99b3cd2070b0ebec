"""Which programs a lean zygote can run: those that name no module beyond what it has loaded.

Only speed hangs on the answer. A program that needs more after all, because it computes the name
of a module or because something it calls imports one, stops there and runs anew in a full zygote
(`sandbox.child.zygote`). What looks at the interpreter itself goes to a full one at once, so that
no verdict depends on how much that has loaded.
"""

from __future__ import annotations

import re

from sandbox.child.preload import LEAN

_LOADED = frozenset(name.partition(".")[0] for name in LEAN)
_IMPORT = re.compile(r"\bfrom\s+([\w.]+)\s+import\b|\bimport\s+([\w., \t]+)")
_DUNDER = re.compile(r"__\w+")
_HARMLESS = frozenset(
    ("__init__", "__post_init__", "__new__", "__call__", "__repr__", "__str__", "__hash__",
     "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__len__", "__bool__", "__iter__",
     "__next__", "__contains__", "__getitem__", "__setitem__", "__delitem__", "__add__", "__radd__",
     "__iadd__", "__sub__", "__mul__", "__truediv__", "__floordiv__", "__mod__", "__pow__",
     "__neg__", "__abs__", "__int__", "__float__", "__and__", "__or__", "__xor__", "__name__",
     "__main__", "__slots__", "__future__", "__enter__", "__exit__")
)  # fmt: skip
_INWARD = ("sys", "eval", "exec", "compile", "getattr", "globals", "locals", "vars", "dir(")


def is_lean(code: str) -> bool:
    """Whether a lean zygote is likely to do for a program (or for an input's expression)."""
    if any(word in code for word in _INWARD):
        return False
    if "__" in code and not _HARMLESS.issuperset(_DUNDER.findall(code)):
        return False
    if "import" in code:
        for origin, names in _IMPORT.findall(code):
            for name in (origin or names).split(","):
                words = name.split()
                if words and words[0].partition(".")[0] not in _LOADED:
                    return False
    return True
