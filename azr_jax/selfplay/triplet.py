"""The nouns of the game: roles, task types, groups, and the tasks themselves.

A task's values are canonical literal text, seen by the sandbox when the program ran; never the
text that a model claimed them to be. Input is argument text: `1, [2]` stands for `f(1, [2])`.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

Role = Literal["propose", "solve"]
TaskType = Literal["deduction", "abduction", "induction"]
ROLES: tuple[Role, ...] = get_args(Role)
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)
GROUPS: tuple[tuple[Role, TaskType], ...] = tuple((r, t) for r in ROLES for t in TASK_TYPES)

MAX_PROGRAM_CHARS = 20_000
"""Longer model-written source is not parsed at all."""


def group_of(role: Role, task_type: TaskType) -> int:
    """Index 0…5 of the group whose rewards are whitened together (TRR++)."""
    return GROUPS.index((role, task_type))


@dataclass(frozen=True, slots=True)
class Triplet:
    """(program, input, output). Deduction asks for the output, abduction for the input."""

    program: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class InductionTask:
    """A program behind N pairs. The solver sees the first half and the message."""

    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    message: str

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(zip(self.inputs, self.outputs, strict=True))

    @property
    def shown(self) -> tuple[tuple[str, str], ...]:
        """The first ⌊N/2⌋ (input, output) pairs."""
        return self.pairs[: len(self.inputs) // 2]

    @property
    def hidden(self) -> tuple[tuple[str, str], ...]:
        """The pairs that decide whether an answer is right."""
        return self.pairs[len(self.inputs) // 2 :]


Task = Triplet | InductionTask

# What self-play starts from when no seed file is given: the identity function.
ZERO_TRIPLET = Triplet("def f(a):\n    return a", "'Hello world'", "'Hello world'")
_ZERO_VALUES = (
    "'Hello world'",
    "1",
    "{'a': 1, 'b': 2}",
    "(1.1, 1.2, 1.3)",
    "'[[1, 0, 0], [0, 0, 0], [0, 0, 0]]'",
    "1001101100010001",
)
ZERO_INDUCTION_TASK = InductionTask(
    ZERO_TRIPLET.program, _ZERO_VALUES, _ZERO_VALUES, "The function gives back what it is given."
)


def task_to_json(task: Task) -> dict[str, Any]:
    """A plain JSON object; `task_from_json` is its inverse."""
    if isinstance(task, Triplet):
        return {"program": task.program, "input": task.input, "output": task.output}
    return {
        "program": task.program,
        "inputs": list(task.inputs),
        "outputs": list(task.outputs),
        "message": task.message,
    }


def task_from_json(row: Mapping[str, Any]) -> Task:
    if "input" in row:
        return Triplet(row["program"], row["input"], row["output"])
    return InductionTask(
        row["program"], tuple(row["inputs"]), tuple(row["outputs"]), row["message"]
    )


def inputs_of(task: Task) -> tuple[str, ...]:
    return (task.input,) if isinstance(task, Triplet) else task.inputs


def parse_program(program: str) -> ast.Module | None:
    """The syntax tree of hostile source; None where it has none, or is absurdly long or deep."""
    if len(program) > MAX_PROGRAM_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # '\d' in a model's string is not our concern
            return ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def program_key(program: str) -> str:
    """Hex digest under which programs that differ only in dress are one.

    Comments, layout, docstrings and annotations are dropped, and each function's own names are
    numbered in order of appearance; globals, builtins, attributes and keywords are kept. Source
    that does not parse is its own stripped text. The form does not depend on the Python version.
    """
    tree = parse_program(program)
    if tree is None:
        return _digest(program.strip())
    try:
        tree = _Undress().visit(tree)
    except RecursionError:
        return _digest(program.strip())
    kept = {k.arg for k in ast.walk(tree) if isinstance(k, ast.keyword)} | set(dir(builtins))
    kept |= {name for statement in tree.body for name in _bound(statement, deep=False)}
    for function in _outermost_functions(tree):
        _number_names(function, kept)
    return _digest("\n".join(_words(tree)))


def task_key(task: Task) -> str:
    """Two tasks with the same key are the same task: same program, same inputs."""
    return key_with_inputs(program_key(task.program), task)


def key_with_inputs(program: str, task: Task) -> str:
    """The task key, for one who has the program's key already. Induction's inputs: in any order."""
    return _digest("\n".join((program, *sorted(inputs_of(task)))))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Undress(ast.NodeTransformer):
    """Drops docstrings and annotations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = _without_docstring(node.body)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(arg=node.arg)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.Pass()
        return ast.Assign(targets=[node.target], value=node.value)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.body, node.returns = _without_docstring(node.body), None
        return self.generic_visit(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
    return body


def _outermost_functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Functions and methods that lie in no other function."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        else:
            todo.extend(ast.iter_child_nodes(node))


def _bound(root: ast.AST, deep: bool = True) -> Iterator[str]:
    """Names that `root` binds, in order of appearance; not `deep`: in the scope it stands in."""
    todo: list[ast.AST] = [root]
    while todo:
        node = todo.pop(0)
        match node:
            case ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield name
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name
            case ast.alias(name=module, asname=alias):
                yield alias or module.partition(".")[0]
        if deep or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(node))


def _number_names(function: ast.AST, kept: set[str | None]) -> None:
    """Renames, in place, the names that `function` binds to $0, $1, …, in order of appearance.

    One numbering serves its nested functions too. A function that holds a class or an import
    keeps its names: there a name is also an attribute or a module.
    """
    inside = [n for n in ast.walk(function) if n is not function]
    if any(isinstance(n, ast.ClassDef | ast.Import | ast.ImportFrom | ast.Global) for n in inside):
        return
    own = cast(ast.FunctionDef, function).name
    names = dict.fromkeys(n for n in _bound(function) if n not in kept and n != own)
    new = {name: f"${i}" for i, name in enumerate(names)}
    for node in inside:
        for field in ("id", "arg", "name", "rest"):
            if (old := getattr(node, field, None)) in new and not isinstance(node, ast.keyword):
                setattr(node, field, new[cast(str, old)])
        if isinstance(node, ast.Nonlocal):
            node.names = [new.get(n, n) for n in node.names]


_DRESS = {"ctx", "kind", "type_comment", "type_ignores", "type_params"}


def _words(tree: ast.AST) -> Iterator[str]:
    """The tree in prefix form, one word an item; iterative, so that depth cannot hurt."""
    todo: list[Any] = [tree]
    while todo:
        item = todo.pop()
        if isinstance(item, ast.AST):
            yield f"({type(item).__name__}"
            todo.append(")")
            for field, value in reversed(list(ast.iter_fields(item))):
                if (field not in _DRESS and value not in (None, [])) or field == "value":
                    todo += [value, field]
        elif isinstance(item, list):
            yield "["
            todo += ["]", *reversed(item)]
        else:
            yield f"{type(item).__name__}:{item!r}"
