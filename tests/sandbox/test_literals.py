"""The literal parser and the canonical writer."""

import ast
import contextlib
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.literals import (
    LiteralError,
    LiteralTooBig,
    arguments_of,
    equal,
    parse_arguments,
    parse_call,
    parse_value,
    to_text,
    value_of,
)

hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.complex_numbers(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
plain = st.recursive(
    hashable | st.text(alphabet=st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=12,
)


def same(a, b):
    """Equal in value and exact type all the way down; NaN is itself, -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) for x, y in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, (set, frozenset)):
        return sorted(map(to_text, a)) == sorted(map(to_text, b))
    return a == b


@given(plain)
def test_round_trip(value):
    text = to_text(value)
    assert same(value_of(text), value)
    assert parse_value(text) == text


def outcome(read, text):
    try:
        return read(text)
    except LiteralError as error:
        return type(error)


@given(
    st.recursive(
        st.integers(-12, 12) | st.booleans() | st.sampled_from([None, "", "a", "b: 1", "it's"]),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 3) | st.sampled_from("ab"), inner, max_size=3),
        max_leaves=8,
    ),
    st.integers(0, 60), st.integers(0, 1), st.sampled_from(["", *"[](){}:,'0-1 "]),
)  # fmt: skip
@example({1: 2, 2: 3}, 7, 1, "1")  # a key twice
def test_the_short_way_is_no_other_way(value, at, gone, put):
    """Short flat texts are recognised without being parsed: also ones that are nearly right."""
    text = repr(value)
    text = text[:at] + put + text[at + gone :]
    assert outcome(parse_value, text) == outcome(lambda t: to_text(value_of(t)), text)
    assert outcome(parse_arguments, text) == outcome(
        lambda t: ", ".join(map(to_text, arguments_of(t))), text
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters()) | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)  # fmt: skip
def test_canonical_text_is_repr(value):
    assert to_text(value) == repr(value)
    assert same(value_of(repr(value)), value)


@given(st.text(alphabet="[](){},:'\"\\ubxrN01289.eEjJ+-_ \nsetfrozninaTrueNl*#", max_size=40))
@example("'a' 'b'")
@example("{1, 2: 3}")
@example("-0j")
def test_what_it_reads_python_reads_alike(text):
    try:
        value = value_of(text)
    except LiteralError:
        return
    try:
        expected = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError):
        if any(name in text for name in ("set", "float", "complex", "inf", "nan")):
            return  # our own spellings
        # A literal may stand on several lines without brackets; Python would not read on.
        expected = ast.literal_eval(f"({text.strip()})")
    assert type(value) is type(expected)
    assert value == expected or same(value, expected)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_anything_else_is_a_literal_error(text):
    for parse in (parse_value, parse_arguments):
        with contextlib.suppress(LiteralError):
            parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "1) or (True", "1)\nstr(True", "__import__('os')", "1 # c", "f'{1}'", "x := 1", "*[1]",
        "lambda: 1", "[x for x in y]", "{**{}}", "a=1", "1 + 2", "2 ** 99", "-True", "--1",
        "1..real",
        "()()", "[1 2]", "[,]", "{:}", "{1: }", "{1: 2, 3}", "{1, 2: 3}", "[", ")", "(]", "007",
        "1_", "1__0", "0x", "'a", "'''a", "b'\u00e9'", "'\\x1'", "'\\N{no such}'", "'\\U00110000'",
        "{[]}", "{[]: 1}", "set([[]])", "set(1)", "float('1')", "float(x)", "complex('1j')", "set",
        "", ",", "print", "None()", "True False", "1 2", "ur''", "1if 2else 3", "...", "0_7", "é",
    ],
)  # fmt: skip
def test_rejected(text):
    with pytest.raises(LiteralError):
        parse_value(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1", "1"), (" [1,2 , 3,] ", "[1, 2, 3]"), ("(1)", "1"), ("(1,)", "(1,)"),
        ("1, 2", "(1, 2)"),
        ('"a"', "'a'"), ("r'\\d'", "'\\\\d'"), ("b'\\x00a'", "b'\\x00a'"),
        ("'''a\nb'''", "'a\\nb'"),
        ("{2, 1}", "{1, 2}"), ("set()", "set()"), ("frozenset({1})", "frozenset({1})"),
        ("{}", "{}"),
        ("frozenset([1])", "frozenset({1})"), ("1e999", "1e999"), ("-inf", "-1e999"),
        ("nan", "float('nan')"), ("float('inf')", "1e999"), ("0x1F", "31"), ("1_000", "1000"),
        ("1+2j", "(1+2j)"), ("-0.0", "-0.0"), ("+1", "1"), ("{1: 'a', True: 'b'}", "{1: 'b'}"),
        ("[1,\n 2]\n", "[1, 2]"), ("complex(1, nan)", "complex(1.0, float('nan'))"), ("-0", "0"),
        ("'\\N{DIGIT ONE}\\u00e9\\ud800'", "'1é\\ud800'"), ("()", "()"),
    ],
)  # fmt: skip
def test_accepted(text, canonical):
    assert parse_value(text) == canonical


@pytest.mark.parametrize(
    "text", ["[" * 65 + "]" * 65, "9" * 5000, "'" + "a" * 70000 + "'", "[" * 60000, "set(" * 200]
)
def test_caps(text):
    with pytest.raises(LiteralTooBig):
        parse_value(text)


def test_arguments():
    assert parse_arguments("") == ""
    assert parse_arguments(" 1 ,[2 ]") == "1, [2]"
    assert parse_arguments("(1, 2)") == "(1, 2)"
    assert arguments_of("(1, 2)") == ((1, 2),)
    assert arguments_of("1,") == (1,)


def test_named_arguments():
    assert parse_call("1, b = [2 , 3],") == "1, b=[2, 3]"
    assert parse_call("a='x=1, y', b={1: (2,)}") == "a='x=1, y', b={1: (2,)}"
    assert parse_call(" 1 ,[2 ]") == "1, [2]"
    assert parse_call("") == ""
    for text in ("a=1) or (True", "a=b", "[a=1]", "a==1", "=1", "a:=1", "a=", "a=1,,b=2", "*a=1"):
        with pytest.raises(LiteralError):
            parse_call(text)


@given(st.text(alphabet="[](){},:'\"\\ab=1 \n", max_size=30))
def test_named_arguments_are_pythons(text):
    try:
        read = parse_call(text)
    except LiteralError:
        return
    if "=" in text:
        call = ast.parse(f"f({' '.join(text.split())})" if "'" not in text else f"f({text})")
        again = ast.parse(f"f({read})")
        assert ast.literal_eval(_values(call)) == ast.literal_eval(_values(again))


def _values(tree):
    call = tree.body[0].value
    names = [ast.Constant(keyword.arg) for keyword in call.keywords]
    return ast.List([*call.args, *names, *(k.value for k in call.keywords)], ast.Load())


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("1", "1.0", True), ("True", "1", True), ("{1: 2, 3: 4}", "{3: 4, 1: 2}", True),
        ("{1, 2}", "{2, 1}", True), ("[1]", "(1,)", False), ("float('nan')", "float('nan')", False),
        ("'a'", '"a"', True), ("frozenset({1})", "{1}", True), ("-0.0", "0.0", True),
        ("[1, [2]]", "[1,[2]]", True), ("1", "'1'", False),
    ],
)  # fmt: skip
def test_equal(a, b, expected):
    assert equal(a, b) is expected
