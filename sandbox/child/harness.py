"""Runs one program on its inputs inside a child and writes one record per input.

Record: ``<B kind> <I n> <I m>`` then n bytes of canonical argument text (present only where the
input was an expression) and m bytes of payload (canonical result, or the error). After the last
record comes one byte `END`. Everything here is only a *claim*: it shares its process with the
program, so the parent believes nothing but what it can check (`sandbox.wire`).
"""

from __future__ import annotations

import builtins
import os
import struct
import sys
from _ast import Call, Expression, Load, Name, Starred, Tuple
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any

from sandbox.child.encode import Unsupported, make_encoder

# As in encode.py: bound before any program runs.
globals().update({k: v for k, v in vars(builtins).items() if not k.startswith("_")})

OK, RAISED, OOM, UNSUPPORTED, NONDETERMINISTIC = range(1, 6)
END = b"\xff"
HEADER = struct.Struct("<BII")
_ERROR_CHARS = 500
_NO_TEXT = " "
_ONLY_AST = 0x400

# Bound before any program runs, as the names above.
_write, _pack, _modules = os.write, HEADER.pack, sys.modules

_OUT_OF_MEMORY = HEADER.pack(OOM, 0, 11) + b"MemoryError"
_LITERALS = {
    "__builtins__": {"set": set, "frozenset": frozenset, "float": float, "complex": complex}
}

_encoders: dict[tuple[int, int, bool], Callable[[object], str]] = {}
"""Made once, by a rehearsal, for all the children that a zygote forks."""

Input = tuple[str, bool]
"""Argument text, and whether the parent has found it to be literal data."""


def run(
    code: str,
    entry: str,
    inputs: list[Input],
    repeats: int,
    output_chars: int,
    depth: int,
    result_fd: int,
    rearm: Callable[[], None] | None,
) -> None:
    """Run `entry` of `code` on each input, `repeats` times, and write the records.

    With no inputs the program is only loaded, and one record says how that went. `rearm` gives
    each call after the first its own CPU budget. Stops neither at a failing input nor at an
    unsupported value.
    """
    cap = output_chars, depth, repeats == 1
    encode = _encoders.get(cap)
    if encode is None:
        encode = _encoders[cap] = make_encoder(*cap)
    write = _write
    failure = b""
    program: CodeType | None = None
    try:
        program = compile(code, "<program>", "exec", dont_inherit=True)
    except MemoryError:
        failure = _OUT_OF_MEMORY
    except BaseException as error:
        failure = _record(RAISED, "", describe(error))
    last = (len(inputs) or 1) - 1
    for index in range(last + 1):
        if index and rearm is not None:
            rearm()
        record = failure
        if program is not None:
            given = inputs[index] if inputs else None
            record = _attempt(program, entry, given, repeats, encode, rearm)
        if index == last:
            record += END
        while record:
            record = record[write(result_fd, record) :]


def _attempt(
    program: CodeType,
    entry: str,
    given: Input | None,
    repeats: int,
    encode: Callable[[object], str],
    rearm: Callable[[], None] | None,
) -> bytes:
    """The record of one input, in a fresh module; None: the program is only loaded.

    The second call of an expression's values is on those that their literal text gives: only what
    comes out alike may be told by that text. In `[[0] * 3] * 3` the rows are one list.
    """
    module = ModuleType("program")
    _modules["program"] = module
    space = module.__dict__
    space["__builtins__"] = builtins
    kind, shown, text = OK, "", ""
    function: Any = None
    scope: Any = None
    plain = False
    values: Any = None
    try:
        exec(program, space)
        function = space[entry] if entry in space else _missing(entry)
        if given is not None:
            source, literal = given
            (arguments, names), scope = compile_arguments(source, literal), space
            if literal:
                scope = _LITERALS
            for repeat in range(repeats):
                if repeat and rearm is not None:
                    rearm()
                if repeat and plain:
                    (arguments, names), scope = compile_arguments(shown, True), _LITERALS
                values = eval(arguments, scope)
                if names:
                    values = positional(function, values, names)
                if not literal and not repeat:
                    shown = _shown(encode, values)
                    plain = bool(values) and shown != _NO_TEXT
                claim = encode(function(*values))
                if repeat and claim != text:
                    kind, text = NONDETERMINISTIC, "two calls differ"
                    if plain:
                        text += ", the second on the literal text of the input"
                    break
                text = claim
    except MemoryError:
        kind = OOM
    except Unsupported as error:
        kind, text = UNSUPPORTED, describe(error, bare=True)
    except BaseException as error:
        kind, text = RAISED, describe(error)
    del module, space
    function = scope = values = None  # what they hold may be what there is no memory for
    if kind == OOM:
        return _OUT_OF_MEMORY
    try:
        return _record(kind, shown, text)
    except MemoryError:
        return _OUT_OF_MEMORY


def compile_arguments(source: str, literal: bool) -> tuple[CodeType, list[str]]:
    """Code that evaluates argument text to the tuple of its values, and the last ones' names.

    Raises SyntaxError where the text is not a plain list of arguments.
    """
    if literal:
        text = f"({source},)" if source else "()"
        return compile(text, "<input>", "eval", dont_inherit=True), []
    tree = compile(f"_({source}\n)", "<input>", "eval", _ONLY_AST, dont_inherit=True)
    call = tree.body
    plain = (
        type(call) is Call
        and type(call.func) is Name
        and call.func.id == "_"
        and all(k.arg for k in call.keywords)
        and not any(type(a) is Starred for a in call.args)
    )
    if not plain:
        raise SyntaxError("input is not a list of arguments")
    parts = [*call.args, *(k.value for k in call.keywords)]
    values = Tuple(parts, Load(), lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)
    code = compile(Expression(values), "<input>", "eval", dont_inherit=True)
    return code, [k.arg for k in call.keywords]


def positional(
    function: Callable[..., object], values: tuple[object, ...], names: list[str]
) -> tuple[object, ...]:
    """The values in the order of the parameters, where the last of them came with names.

    Raises TypeError unless the names are those of the parameters that follow, in any order.
    """
    plain = len(values) - len(names)
    code = getattr(function, "__code__", None)
    asked = code.co_varnames[plain : len(values)] if code is not None else ()
    if sorted(asked) != sorted(names):
        raise TypeError(f"arguments named {', '.join(names)} are not the parameters that follow")
    named = dict(zip(names, values[plain:], strict=True))
    return (*values[:plain], *[named[name] for name in asked])


def describe(error: BaseException, bare: bool = False) -> str:
    """``Name: message``, capped; hostile exceptions may lie, loop (the timer) or raise."""
    try:
        message = str(error)
        if bare:
            return message[:_ERROR_CHARS]
        name = type(error).__name__
        return f"{name}: {message}"[:_ERROR_CHARS] if message else str(name)[:_ERROR_CHARS]
    except BaseException:
        return "exception without a readable message"


def _missing(entry: str) -> Callable[..., object]:
    raise NameError(f"the program defines no {entry!r}")


def _shown(encode: Callable[[object], str], values: tuple[object, ...]) -> str:
    """Canonical argument text, or one blank where an argument is not a plain value."""
    try:
        return ", ".join([encode(v) for v in values]) if values else "()"
    except Unsupported:
        return _NO_TEXT


def _record(kind: int, shown: str, text: str) -> bytes:
    left, right = shown.encode(), text.encode("utf-8", "backslashreplace")
    return _pack(kind, len(left), len(right)) + left + right
