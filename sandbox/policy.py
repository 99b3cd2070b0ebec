"""A static quality filter for proposed programs. Not a wall: the walls are in the kernel.

It keeps the buffer free of programs that are pointless to learn from: ones that read clocks,
random numbers, the host or their own interpreter, or that have no plain function to call.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_ORIGINAL_MODULES = frozenset({
    "logging", "random", "multiprocessing", "pebble", "subprocess", "threading", "datetime",
    "time", "hashlib", "hmac", "bcrypt", "os.sys", "os.path", "sys.exit", "os.environ", "calendar",
})  # fmt: skip
"""The ban list of the published implementation (its configuration; paper, figure 10)."""

_HOLES_CLOSED = frozenset({
    "os", "sys", "shutil", "posix", "_thread", "builtins", "importlib", "ctypes", "_ctypes",
    "signal", "socket", "_socket", "select", "selectors", "ssl", "asyncio", "concurrent",
    "pathlib", "tempfile", "glob", "fcntl", "resource", "mmap", "pickle", "marshal", "shelve",
    "inspect", "gc", "code", "codeop", "pdb", "bdb", "faulthandler", "tracemalloc", "atexit",
    "uuid", "secrets", "platform", "getpass", "pwd", "http", "urllib", "ftplib", "smtplib",
    "webbrowser", "pty", "runpy", "pkgutil", "zipimport", "sandbox", "timeit", "zoneinfo",
    "locale", "_random", "_datetime", "_strptime", "_io", "site", "sysconfig",
})  # fmt: skip
_BANNED_NAMES = frozenset({
    "open", "eval", "exec", "compile", "input", "globals", "locals", "vars", "breakpoint", "exit",
    "quit", "help", "memoryview", "copyright", "credits", "license",
})  # fmt: skip
_HARMLESS_DUNDERS = frozenset({
    "__init__", "__post_init__", "__name__", "__len__", "__str__", "__repr__", "__iter__",
    "__next__", "__contains__", "__getitem__", "__setitem__", "__call__", "__new__", "__eq__",
    "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__add__", "__sub__", "__mul__",
    "__bool__", "__enter__", "__exit__",
})  # fmt: skip
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_ATTRIBUTE_BY_NAME = ("getattr", "setattr", "delattr", "hasattr")

_MAX_BRACKETS = 64
_PREFIXES = re.compile(r"(?:(?:[-+~]|\bnot\b|\blambda\b[^:]{0,20}:|\bawait\b)\s*){32}")
_SKIP = re.compile(
    r"\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|#[^\n]*", re.DOTALL
)
_BRACKETS = re.compile(r"[()\[\]{}]")


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """What a program may not contain.

    Attributes:
        banned_modules: import names; ``"os"`` covers ``os.path``, ``"os.path"`` only itself (in
            either spelling: ``import os.path``, ``from os import path``, ``os.path.join``).
        banned_names: builtins that may not be mentioned.
        dunders: whether attributes and names like ``__class__`` are let through.
        max_chars: longest program.
        components: compare each dotted component of an import with the list, as the published
            implementation does, and look at nothing else.
    """

    banned_modules: frozenset[str] = _ORIGINAL_MODULES | _HOLES_CLOSED
    banned_names: frozenset[str] = field(default=_BANNED_NAMES)
    dunders: bool = False
    max_chars: int = 16384
    components: bool = False

    @classmethod
    def parity(cls) -> PolicyConfig:
        """The published implementation's rule, holes included; for comparisons with it."""
        return cls(_ORIGINAL_MODULES, frozenset(), True, components=True)


def check_program(code: str, policy: PolicyConfig, entry: str = "f") -> str | None:
    """Why the program is rejected, in a few words; None if it is not. Never raises."""
    try:
        reason, tree = _parse(code, policy)
        if tree is None:
            return reason
        return _check_entry(tree, entry) or _check_nodes(tree, policy)
    except (RecursionError, MemoryError):
        return "too deeply nested"


def _parse(code: str, policy: PolicyConfig) -> tuple[str, ast.Module | None]:
    """The syntax tree; bounded first, since the parser's own limits are the C stack's."""
    if len(code) > policy.max_chars:
        return f"longer than {policy.max_chars} characters", None
    bare = _SKIP.sub("''", code)
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in "([{" else -1
        if depth > _MAX_BRACKETS:
            return "too deeply nested", None
    if _PREFIXES.search(bare):
        return "too deeply nested", None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "", ast.parse(code)
    except (SyntaxError, ValueError, SystemError) as error:
        return f"does not parse: {str(error)[:100]}", None


def _check_entry(tree: ast.Module, entry: str) -> str | None:
    found: ast.stmt | None = None
    for node in _module_level(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name == entry:
                found = node
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == entry for t in node.targets
        ):
            found = node
    if found is None:
        return f"no function {entry!r}"
    if isinstance(found, ast.AsyncFunctionDef):
        return f"{entry!r} is a coroutine"
    if isinstance(found, ast.ClassDef):
        return f"{entry!r} is a class"
    if isinstance(found, ast.FunctionDef) and _yields(found):
        return f"{entry!r} is a generator"
    return None


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at import, those inside if, try, for and with included."""
    stack = list(reversed(body))
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                stack.append(child)
            elif isinstance(child, ast.ExceptHandler):
                stack.extend(child.body)


def _yields(function: ast.FunctionDef) -> bool:
    """Whether the function itself, not one inside it, yields."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            stack.extend(ast.iter_child_nodes(node))
    return False


def _check_nodes(tree: ast.Module, policy: PolicyConfig) -> str | None:
    # Each node with the program's own names there, and those that functions inside it will see.
    stack: list[tuple[ast.AST, frozenset[str], frozenset[str]]] = []
    known: frozenset[str] = frozenset()
    everywhere = known.union(*map(_always_bound, tree.body))
    for statement in tree.body:
        stack.append((statement, known, everywhere))
        known |= _always_bound(statement)
    while stack:
        node, known, later = stack.pop()
        reason = _check_import(node, policy)
        if reason is None and not policy.components:
            reason = _check_use(node, policy, known)
        if reason is not None:
            return reason
        stack += _children(node, known, later)
    return None


def _children(
    node: ast.AST, known: frozenset[str], later: frozenset[str]
) -> Iterator[tuple[ast.AST, frozenset[str], frozenset[str]]]:
    """A node's parts with the names that each sees: functions and comprehensions are scopes."""
    inside, deeper = known, later
    scope: list[ast.AST] = []
    if isinstance(node, _FUNCTIONS):  # but not its defaults and decorators
        scope = [*node.body] if isinstance(node.body, list) else [node.body]
        inside = deeper = later | _local_names(node)
    elif isinstance(node, _COMPREHENSIONS):  # but not what its first `for` goes through
        parts = [part for g in node.generators for part in (g.target, g.iter, *g.ifs)]
        values = [n for n in ast.iter_child_nodes(node) if not isinstance(n, ast.comprehension)]
        scope = [part for part in (*parts, *values) if part is not node.generators[0].iter]
        own = _bound([g.target for g in node.generators])
        inside, deeper = known | own, later | own
        yield node.generators[0].iter, known, later
    mine = {id(part) for part in scope}
    yield from ((part, inside, deeper) for part in scope)
    for part in ast.iter_child_nodes(node):
        if id(part) not in mine and not isinstance(part, ast.comprehension):
            yield part, known, later


def _local_names(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> frozenset[str]:
    """Parameters and what it binds: what it means by these names is its own business."""
    a = function.args
    parameters = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
    names = {parameter.arg for parameter in parameters if parameter is not None}
    body = function.body if isinstance(function.body, list) else [function.body]
    return frozenset(names) | _bound(body)


def _always_bound(statement: ast.stmt) -> frozenset[str]:
    """What a statement of the module gives to names for certain: nothing inside `if` or a loop."""
    plain = (ast.Assign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    imports = (ast.Import, ast.ImportFrom)
    if isinstance(statement, (*plain, *imports)) or (
        isinstance(statement, ast.AnnAssign) and statement.value is not None
    ):
        return _bound([statement])
    return frozenset()


def _bound(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Names that a scope with these nodes binds; what it declares global or nonlocal is not its."""
    bound: set[str | None] = set()
    declared: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.comprehension):  # its target is not the scope's; a := in it is
            stack += [node.iter, *node.ifs]
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            declared.update(node.names)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping):
            bound.add(node.rest)
        stack.extend(ast.iter_child_nodes(node))
    return frozenset(name for name in bound if name is not None) - declared


def _check_import(node: ast.AST, policy: PolicyConfig) -> str | None:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level and not policy.components:
            return "relative import"
        names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
    for name in names:
        if policy.components:
            if any(part in policy.banned_modules for part in name.split(".")):
                return f"imports {name}"
        elif _banned_path(name, policy):
            return f"imports {name}"
    return None


def _banned_path(name: str, policy: PolicyConfig) -> bool:
    """Whether a dotted name, or a package it lies in, is on the list."""
    parts = name.split(".")
    return any(".".join(parts[: n + 1]) in policy.banned_modules for n in range(len(parts)))


def _check_use(node: ast.AST, policy: PolicyConfig, known: frozenset[str]) -> str | None:
    if isinstance(node, ast.Name):
        if node.id in known:
            return None
        loaded = isinstance(node.ctx, ast.Load)
        if (loaded and node.id in policy.banned_names) or node.id == "__import__":
            return f"uses {node.id}"
        if not policy.dunders and _is_dunder(node.id) and node.id != "__name__":
            return f"uses {node.id}"
    elif isinstance(node, ast.Attribute):
        if not policy.dunders and _is_dunder(node.attr) and node.attr not in _HARMLESS_DUNDERS:
            return f"uses attribute {node.attr}"
        path = _dotted(node)
        if path is not None and "." in path and path in policy.banned_modules:
            return f"uses {path}"
        if node.attr in ("_getframe", "gi_frame", "cr_frame", "tb_frame", "f_globals", "f_back"):
            return f"uses attribute {node.attr}"
    elif isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Name) and function.id in _ATTRIBUTE_BY_NAME:
            name = node.args[1] if len(node.args) > 1 else None
            plain = isinstance(name, ast.Constant) and isinstance(name.value, str)
            if not policy.dunders and not (plain and "__" not in name.value):  # type: ignore[union-attr]
                return f"uses {function.id} with a computed name"
    return None


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _dotted(node: ast.Attribute) -> str | None:
    parts = [node.attr]
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute) and len(parts) < 8:
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name):
        return None
    return ".".join([inner.id, *reversed(parts)])
