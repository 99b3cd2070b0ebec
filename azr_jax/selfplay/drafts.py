"""A draft: what a proposer (or a seed file) wrote, before the sandbox has run it.

draft → static rules → `job` → Outcome → task with canonical values. Nothing that the writer
claims about outputs is ever used.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from azr_jax.selfplay.split import is_held_out
from azr_jax.selfplay.triplet import parse_program
from azr_jax.selfplay.verdict import same
from sandbox import Job, Outcome, Status
from sandbox.policy import PolicyConfig, check_program

_DEFINES = re.compile(r"\bdef\s+\w")


@dataclass(frozen=True, slots=True)
class Draft:
    """One input for deduction and abduction (message None); N and a message for induction.

    Inputs are Python expressions as written; the sandbox turns them into canonical literals.
    """

    program: str
    inputs: tuple[str, ...]
    message: str | None = None


class Rejected(Exception):
    """Why a draft is not a task. `status`: FORMAT, REJECTED, HELD_OUT or the sandbox's word."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DraftRules:
    """What a draft must obey before it runs.

    policy: modules and calls that are not allowed.
    reject_multiple_functions: a second `def` anywhere disqualifies (a switch of the original).
    hold_out: programs of the held-out split are turned away, so that an evaluation on them is fair.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    reject_multiple_functions: bool = False
    hold_out: bool = False


ANY = DraftRules()


def vet(draft: Draft, rules: DraftRules) -> Draft:
    """The draft with its entry function named `f`; raises Rejected where a rule is broken."""
    tree = parse_program(draft.program)
    if tree is None:
        raise Rejected("REJECTED", "the program is not Python")
    draft = replace(draft, program=_entry_named_f(draft.program, tree))
    if rules.reject_multiple_functions and len(_functions(ast.walk(tree))) > 1:
        raise Rejected("REJECTED", "more than one function")
    if not all(draft.inputs):
        raise Rejected("REJECTED", "an input is empty")
    if draft.message is not None:
        _check_message(draft.message, draft.program)
    # The inputs run beside the program: a ban that looked at the program alone would be no ban.
    calls = (f"def f(*arguments): ...\nf({text})" for text in draft.inputs)
    for code in (draft.program, *calls):
        if reason := check_program(code, rules.policy):
            raise Rejected("REJECTED", reason)
    if rules.hold_out and is_held_out(draft.program):
        raise Rejected("HELD_OUT", "the program belongs to an evaluation")
    return draft


def job(draft: Draft) -> Job:
    """The run that turns a vetted draft into a task: twice, in two interpreters."""
    return Job(draft.program, draft.inputs, deterministic=True, stop_at_failure=True)


def canonical(outcome: Outcome) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(inputs, outputs) of the run as canonical literals; raises Rejected where one call failed."""
    if outcome.status is not Status.OK:
        raise Rejected(outcome.status.name, outcome.error or outcome.status.name)
    inputs, outputs = outcome.inputs, outcome.outputs
    found = [text for text in (*inputs, *outputs) if text is not None]
    if len(found) != len(inputs) + len(outputs):
        raise Rejected("UNSUPPORTED", "a value has no literal form")
    # NaN is unlike itself: no answer could be right.
    if not all(same(text, text) for text in outputs if text is not None):
        raise Rejected("UNSUPPORTED", "an output does not equal itself")
    return tuple(found[: len(inputs)]), tuple(found[len(inputs) :])


def draft_from_row(row: Mapping[str, Any]) -> Draft:
    """A row of the original's seed files: `snippet, input, imports` or `snippet, inputs, message`.

    Outputs in the row are ignored: some were cut at 400 characters when they were written.

    Raises:
      KeyError: a field is missing.
      TypeError: one is no text, or no list of texts.
    """
    program = _text(row, "snippet")
    lines = {line.strip() for line in program.splitlines()}
    imports = _texts(row, "imports") if row.get("imports") else ()
    program = "\n".join((*(line for line in imports if line.strip() not in lines), program))
    if "inputs" in row:
        return Draft(program, _texts(row, "inputs"), _text(row, "message"))
    return Draft(program, (_text(row, "input"),))


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise TypeError(f'"{name}" has to be a string')
    return cast(str, row[name])


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = row[name]
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise TypeError(f'"{name}" has to be a list of strings')
    return tuple(values)


def _check_message(message: str, program: str) -> None:
    if not message.strip():
        raise Rejected("REJECTED", "no message")
    if _DEFINES.search(message) or _squeezed(program) in _squeezed(message):
        raise Rejected("REJECTED", "the message gives the program away")


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _functions(nodes: Iterable[ast.AST]) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def _entry_named_f(program: str, tree: ast.Module) -> str:
    """The program with its entry renamed to `f`: an `f` stays, else the last top-level function.

    Done on the syntax tree's positions, so comments and layout stay and strings are not touched.
    Where the renaming could change the meaning the program is rejected.
    """
    functions = _functions(tree.body)
    if not functions:
        raise Rejected("REJECTED", "no function at the top level")
    if any(function.name == "f" for function in functions):
        return program
    entry = functions[-1]
    nodes = list(ast.walk(tree))
    uses = [n for n in nodes if isinstance(n, ast.Name) and n.id == entry.name]
    if any(_binds(n, "f") or (n is not entry and _binds(n, entry.name)) for n in nodes):
        raise Rejected("REJECTED", f"the entry {entry.name} cannot be renamed to f")
    # ast counts columns in UTF-8 bytes.
    program = program.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.encode() for line in program.split("\n")]
    places = [(n.lineno - 1, n.col_offset) for n in uses]
    old, line = entry.name.encode(), lines[entry.lineno - 1]
    name_at = line.find(old, line.index(b"def", entry.col_offset) + len(b"def"))
    places.append((entry.lineno - 1, name_at))
    for row, start in sorted(places, reverse=True):
        line, end = lines[row], start + len(old)
        # Source and name differ where the source is not in normal form (NFKC) or breaks the line.
        if start < 0 or line[start:end] != old:
            raise Rejected("REJECTED", f"the entry {entry.name} cannot be renamed to f")
        lines[row] = line[:start] + b"f" + line[end:]
    return b"\n".join(lines).decode()


def _binds(node: ast.AST, name: str) -> bool:
    """Does this node give `name` a meaning of its own? For `f` a mere reading counts too."""
    if isinstance(node, ast.Name):
        return node.id == name and (name == "f" or not isinstance(node.ctx, ast.Load))
    if isinstance(node, ast.keyword):
        return False
    names = [getattr(node, field, None) for field in ("name", "arg", "asname", "rest")]
    return name in names or name in getattr(node, "names", ())
