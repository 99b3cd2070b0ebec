"""How involved and how new the proposed programs are. For the log, and only when asked for."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from azr_jax.selfplay.triplet import parse_program, program_key

# Each adds one path through the program (McCabe 1976).
_BRANCHES = (
    ast.If | ast.IfExp | ast.For | ast.While | ast.ExceptHandler | ast.comprehension | ast.Assert
)
_EDIT_NODES = 400
"""difflib is quadratic: longer trees are compared up to here."""


@dataclass(frozen=True, slots=True)
class ProgramMetrics:
    """lines: not blank. nodes: of the syntax tree. cyclomatic: 1 + the number of branches."""

    lines: int
    nodes: int
    cyclomatic: int


def measure(program: str) -> ProgramMetrics | None:
    """None for what does not parse."""
    if (tree := parse_program(program)) is None:
        return None
    nodes = list(ast.walk(tree))
    branches = sum(isinstance(node, _BRANCHES) for node in nodes)
    branches += sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    branches += sum(len(node.cases) - 1 for node in nodes if isinstance(node, ast.Match))
    lines = sum(bool(line.strip()) for line in program.splitlines())
    return ProgramMetrics(lines, len(nodes), 1 + branches)


def edit_distance(program: str, references: Sequence[str]) -> float | None:
    """Mean over the references of 1 − difflib's ratio of the two node type sequences.

    In [0, 1]; None where nothing can be compared.
    """
    own = _node_types(program)
    others = [types for types in map(_node_types, references) if types]
    if not own or not others:
        return None
    ratios = [difflib.SequenceMatcher(None, own, types, False).ratio() for types in others]
    return 1.0 - sum(ratios) / len(ratios)


def unique_fraction(programs: Sequence[str]) -> float | None:
    """Share of distinct programs, dress aside; None of none."""
    return len({program_key(p) for p in programs}) / len(programs) if programs else None


def _node_types(program: str) -> list[str]:
    tree = parse_program(program)
    return [type(node).__name__ for node in ast.walk(tree)][:_EDIT_NODES] if tree else []
