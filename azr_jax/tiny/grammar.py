"""A grammar of small Python functions, with execution traces that a tiny model can follow.

Programs are near-SSA: every statement applies one operation and names its result afresh, so that
each step of a trace is a local look-up. Values are integers up to 99 and lists of up to six.
Level 1, 2, 3 is the number of statements.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Value = int | list[int]
Kind = Literal["int", "list"]
Steps = tuple[str, ...]
LEVELS = (1, 2, 3)
MAX_INT, MAX_ITEMS = 99, 6
NAMES = "yzwv"


@dataclass(frozen=True)
class Operation:
    """One expression of `x` (and `b`, an earlier variable) with a constant `k`.

    `steps(x, b, k)` lists what the expression becomes between its text and its value.
    `inverse(value, k)` gives the steps to, and the value of, one canonical argument, or None.
    """

    text: str
    source: Kind
    target: Kind
    value: Callable[[Value, Value, int], Value]
    steps: Callable[[str, str, int], Steps]
    inverse: Callable[[Value, int], tuple[Steps, Value] | None]
    constants: Sequence[int] = (0,)
    other: Kind | None = None
    weight: float = 1.0

    def expression(self, x: str, b: str, k: int) -> str:
        return self.text.format(x=x, b=b, k=k)


@dataclass(frozen=True)
class Statement:
    """`name = operation(argument, other, constant)`; the last one of a program is returned."""

    name: str
    operation: Operation
    argument: str
    other: str
    constant: int

    @property
    def text(self) -> str:
        expression = self.operation.expression(self.argument, self.other, self.constant)
        return f"return {expression}" if self.name == "return" else f"{self.name}={expression}"


@dataclass(frozen=True)
class Program:
    """A function of one argument `x`."""

    kind: Kind
    statements: tuple[Statement, ...]

    @property
    def level(self) -> int:
        return len(self.statements)

    @property
    def target(self) -> Kind:
        return self.statements[-1].operation.target

    @property
    def text(self) -> str:
        return "def f(x):" + "".join(f"\n {s.text}" for s in self.statements)

    @property
    def message(self) -> str:
        """What an induction task says of the program: kinds and length, never the operations."""
        plural = "" if self.level == 1 else "s"
        return f"{self.kind} to {self.target}, {self.level} step{plural}"

    def run(self, x: Value) -> list[Value] | None:
        """The value of every statement, or None where one fails or leaves the value range."""
        values: dict[str, Value] = {"x": x}
        results = []
        for s in self.statements:
            try:
                value = s.operation.value(values[s.argument], values.get(s.other, 0), s.constant)
            except (IndexError, ValueError, ZeroDivisionError):
                return None
            if not in_range(value):
                return None
            values[s.name] = value
            results.append(value)
        return results

    def trace(self, x: Value) -> str:
        """Forward execution: every line, its variables replaced, its value."""
        values: dict[str, Value] = {"x": x}
        lines = [f"x={x}"]
        results = self.run(x)
        assert results is not None, "only programs that run are traced"
        for s, value in zip(self.statements, results, strict=True):
            steps = s.operation.steps(
                str(values[s.argument]), str(values.get(s.other, "")), s.constant
            )
            lines.append("=".join(_distinct(s.text, *steps, str(value))))
            values[s.name] = value
        return "\n ".join(lines)

    def invert(self, output: Value) -> tuple[str, Value] | None:
        """Backward execution from `output`: the trace and one input that gives it, or None."""
        lines, value = [], output
        for s in reversed(self.statements):
            found = s.operation.inverse(value, s.constant) if s.operation.other is None else None
            if found is None or not in_range(found[1]):
                return None
            lines.append(f"{s.text}={value}")
            steps, value = found
            lines.append("=".join(_distinct(s.argument, *steps, str(value))))
        run = self.run(value)
        if run is None or run[-1] != output or any(s.argument == "" for s in self.statements):
            return None
        chain = ["x", *(s.name for s in self.statements)]
        if any(s.argument != chain[i] for i, s in enumerate(self.statements)):
            return None
        return "\n ".join(lines), value


def in_range(value: Value) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_ITEMS and all(abs(v) <= MAX_INT for v in value)
    return abs(value) <= MAX_INT


def draw_input(rng: random.Random, kind: Kind) -> Value:
    if kind == "int":
        return rng.randint(0, 9) if rng.random() < 0.6 else rng.randint(10, 20)
    return [rng.randint(0, 9) for _ in range(rng.choice((1, 2, 2, 3, 3, 4)))]


def draw_program(rng: random.Random, level: int) -> Program:
    """A random program of `level` statements; each uses the result of the one before it."""
    start: Kind = rng.choice(("int", "list"))
    names = rng.sample(NAMES, level - 1)
    kinds: dict[str, Kind] = {"x": start}
    statements: list[Statement] = []
    latest = "x"
    for name in (*names, "return"):
        pool = [
            op
            for op in OPERATIONS[kinds[latest]]
            if op.other is None or any(k == op.other and v != latest for v, k in kinds.items())
        ]
        op = rng.choices(pool, [o.weight for o in pool])[0]
        others = [v for v, k in kinds.items() if k == op.other and v != latest]
        other = rng.choice(others) if others else ""
        statements.append(Statement(name, op, latest, other, rng.choice(op.constants)))
        kinds[name] = op.target
        latest = name
    return Program(start, tuple(statements))


def draw_inputs(rng: random.Random, program: Program, count: int) -> list[Value] | None:
    """`count` distinct inputs that run, with at least two distinct outputs if `count` > 1."""
    found: list[Value] = []
    for _ in range(6 * count):
        x = draw_input(rng, program.kind)
        if x not in found and program.run(x) is not None:
            found.append(x)
        if len(found) == count:
            outputs = {str((program.run(x) or [0])[-1]) for x in found}
            return found if count == 1 or len(outputs) > 1 else None
    return None


def _distinct(*parts: str) -> list[str]:
    return [p for i, p in enumerate(parts) if i == 0 or p != parts[i - 1]]


def _replaced(text: str) -> Callable[[str, str, int], Steps]:
    return lambda x, b, k: (text.format(x=x, b=b, k=k),)


def _no_inverse(value: Value, k: int) -> None:
    return None


def _int(
    text: str,
    value: Callable[[int, int], Value],
    inverse: Callable[[int, int], tuple[Steps, Value] | None],
    constants: Sequence[int] = (0,),
    steps: Callable[[str, str, int], Steps] | None = None,
    target: Kind = "int",
    weight: float = 1.0,
) -> Operation:
    return Operation(
        text,
        "int",
        target,
        lambda x, b, k: value(x, k),  # type: ignore[arg-type]
        steps or _replaced(text),
        inverse,  # type: ignore[arg-type]
        constants,
        weight=weight,
    )


def _list(
    text: str,
    value: Callable[[list[int], int], Value],
    inverse: Callable[..., tuple[Steps, Value] | None],
    constants: Sequence[int] = (0,),
    steps: Callable[[str, str, int], Steps] | None = None,
    target: Kind = "list",
    weight: float = 1.0,
) -> Operation:
    return Operation(
        text,
        "list",
        target,
        lambda x, b, k: value(x, k),  # type: ignore[arg-type]
        steps or _replaced(text),
        inverse,
        constants,
        weight=weight,
    )


def _binary(
    text: str,
    source: Kind,
    other: Kind,
    target: Kind,
    value: Callable[[Value, Value, int], Value],
    weight: float = 0.5,
) -> Operation:
    return Operation(
        text, source, target, value, _replaced(text), _no_inverse, other=other, weight=weight
    )


def _if(condition: bool, value: Value, *steps: str) -> tuple[Steps, Value] | None:
    return (steps, value) if condition else None


def _items(text: str) -> list[str]:
    return [part for part in text.strip("[]").split(", ") if part]


def _each(sign: str) -> Callable[[str, str, int], Steps]:
    return lambda x, b, k: ("[" + ", ".join(f"{item}{sign}{k}" for item in _items(x)) + "]",)


def _fold(x: str, b: str, k: int) -> Steps:
    """`[3, 1, 4]` -> `3+1+4`, `4+4`: one addition a step."""
    items = [int(i) for i in _items(x)]
    steps = ["+".join(str(i) for i in items)] if items else []
    while len(items) > 2:
        items = [items[0] + items[1], *items[2:]]
        steps.append("+".join(str(i) for i in items))
    return tuple(steps)


def _difference(x: str, b: str, k: int) -> Steps:
    return (f"abs({x}-{k})", f"abs({int(x) - k})")


def _branch(x: str, b: str, k: int) -> Steps:
    return (f"{x}+{k} if {x}>9 else {x}*{k}", f"{x}+{k}" if int(x) > 9 else f"{x}*{k}")


DIGITS = range(1, 10)

OPERATIONS: dict[Kind, tuple[Operation, ...]] = {
    "int": (
        _int("{x}+{k}", lambda x, k: x + k, lambda v, k: ((f"{v}-{k}",), v - k), DIGITS, weight=2),
        _int("{x}-{k}", lambda x, k: x - k, lambda v, k: ((f"{v}+{k}",), v + k), DIGITS, weight=2),
        _int("{k}-{x}", lambda x, k: k - x, lambda v, k: ((f"{k}-{v}",), k - v), range(5, 21)),
        _int(
            "{x}*{k}",
            lambda x, k: x * k,
            lambda v, k: _if(v % k == 0, v // k, f"{v}//{k}"),
            range(2, 6),
            weight=2,
        ),
        _int("{x}//{k}", lambda x, k: x // k, lambda v, k: ((f"{v}*{k}",), v * k), range(2, 6)),
        _int("{x}%{k}", lambda x, k: x % k, lambda v, k: _if(0 <= v < k, v), range(2, 10)),
        _int("max({x}, {k})", max, lambda v, k: _if(v >= k, v), range(3, 15)),
        _int("min({x}, {k})", min, lambda v, k: _if(v <= k, v), range(3, 15)),
        _int(
            "{x}*{x}",
            lambda x, k: x * x,
            lambda v, k: _if(v >= 0 and math.isqrt(max(v, 0)) ** 2 == v, math.isqrt(max(v, 0))),
            weight=0.5,
        ),
        _int(
            "{x}+{x}",
            lambda x, k: x + x,
            lambda v, k: _if(v % 2 == 0, v // 2, f"{v}//2"),
            weight=0.5,
        ),
        _int(
            "abs({x}-{k})",
            lambda x, k: abs(x - k),
            lambda v, k: _if(v >= 0, v + k, f"{v}+{k}"),
            range(3, 13),
            steps=_difference,
        ),
        _int(
            "{x}+{k} if {x}>9 else {x}*{k}",
            lambda x, k: x + k if x > 9 else x * k,
            lambda v, k: None,
            range(2, 6),
            steps=_branch,
            weight=0.7,
        ),
        _int(
            "[{x}, {k}]",
            lambda x, k: [x, k],
            lambda v, k: _pair(v, 0, k),
            range(10),
            target="list",
        ),
        _int(
            "[{k}, {x}]",
            lambda x, k: [k, x],
            lambda v, k: _pair(v, 1, k),
            range(10),
            target="list",
        ),
        _int(
            "[{x}]*{k}",
            lambda x, k: [x] * k,
            lambda v, k: _repeated(v),
            range(2, 5),
            target="list",
            weight=0.7,
        ),
        _int(
            "[{x}, {x}+{k}]",
            lambda x, k: [x, x + k],
            lambda v, k: _successor(v, k),
            DIGITS,
            target="list",
            weight=0.7,
        ),
        _binary("{x}+{b}", "int", "int", "int", lambda x, b, k: x + b),  # type: ignore[operator]
        _binary("{x}-{b}", "int", "int", "int", lambda x, b, k: x - b),  # type: ignore[operator]
        _binary("max({x}, {b})", "int", "int", "int", lambda x, b, k: max(x, b)),
        _binary("[{b}, {x}]", "int", "int", "list", lambda x, b, k: [b, x]),  # type: ignore[list-item]
        _binary("{b}+[{x}]", "int", "list", "list", lambda x, b, k: [*b, x]),  # type: ignore[misc,list-item]
    ),
    "list": (
        _list(
            "{x}+[{k}]", lambda x, k: [*x, k], lambda v, k: _if(v[-1:] == [k], v[:-1]), range(10)
        ),
        _list("[{k}]+{x}", lambda x, k: [k, *x], lambda v, k: _if(v[:1] == [k], v[1:]), range(10)),
        _list("{x}[::-1]", lambda x, k: x[::-1], lambda v, k: ((), v[::-1])),
        _list("sorted({x})", lambda x, k: sorted(x), lambda v, k: _if(v == sorted(v), v)),
        _list("{x}[1:]", lambda x, k: x[1:], lambda v, k: ((), [0, *v])),
        _list("{x}[:-1]", lambda x, k: x[:-1], lambda v, k: ((), [*v, 0])),
        _list(
            "{x}*2",
            lambda x, k: x * 2,
            lambda v, k: _if(v[: len(v) // 2] * 2 == v, v[: len(v) // 2]),
            weight=0.7,
        ),
        _list(
            "[c+{k} for c in {x}]",
            lambda x, k: [c + k for c in x],
            lambda v, k: ((_each("-")(str(v), "", k)), [c - k for c in v]),
            DIGITS,
            steps=_each("+"),
        ),
        _list(
            "[c*{k} for c in {x}]",
            lambda x, k: [c * k for c in x],
            lambda v, k: _if(
                all(c % k == 0 for c in v), [c // k for c in v], *_each("//")(str(v), "", k)
            ),
            (2, 3),
            steps=_each("*"),
            weight=0.7,
        ),
        _list(
            "{x}[:{k}]", lambda x, k: x[:k], lambda v, k: _if(len(v) <= k, v), (2, 3), weight=0.7
        ),
        _list("sum({x})", lambda x, k: sum(x), lambda v, k: ((), [v]), steps=_fold, target="int"),
        _list(
            "len({x})", lambda x, k: len(x), lambda v, k: _if(0 <= v <= 6, [0] * v), target="int"
        ),
        _list("max({x})", lambda x, k: max(x), lambda v, k: ((), [v]), target="int"),
        _list("min({x})", lambda x, k: min(x), lambda v, k: ((), [v]), target="int"),
        _list("{x}[0]", lambda x, k: x[0], lambda v, k: ((), [v]), target="int"),
        _list("{x}[-1]", lambda x, k: x[-1], lambda v, k: ((), [v]), target="int"),
        _list(
            "{x}.count({k})",
            lambda x, k: x.count(k),
            lambda v, k: _if(0 <= v <= 6, [k] * v),
            range(10),
            target="int",
        ),
        _binary("{x}+{b}", "list", "list", "list", lambda x, b, k: [*x, *b]),  # type: ignore[misc]
        _binary("{x}+[{b}]", "list", "int", "list", lambda x, b, k: [*x, b]),  # type: ignore[misc,list-item]
    ),
}


def _pair(value: Value, position: int, k: int) -> tuple[Steps, Value] | None:
    if isinstance(value, list) and len(value) == 2 and value[1 - position] == k:
        return (), value[position]
    return None


def _repeated(value: Value) -> tuple[Steps, Value] | None:
    if isinstance(value, list) and value and len(set(value)) == 1:
        return (), value[0]
    return None


def _successor(value: Value, k: int) -> tuple[Steps, Value] | None:
    if isinstance(value, list) and len(value) == 2 and value[1] == value[0] + k:
        return (), value[0]
    return None
