"""The static rules: what a draft may be before it runs."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.selfplay.drafts import Draft, DraftRules, Rejected, vet
from azr_jax.selfplay.split import is_held_out

RULES = DraftRules()


def renamed(program: str) -> str:
    return vet(Draft(program, ("1",)), RULES).program


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("def f(a):\n    return a", "def f(a):\n    return a"),
        ("def go(a):\n    return a  # go on", "def f(a):\n    return a  # go on"),
        ("def go(a):\n    return 'go' + a", "def f(a):\n    return 'go' + a"),
        ("def g(a): return a\ndef go(a): return g(a)", "def g(a): return a\ndef f(a): return g(a)"),
        ("def f(a): return a\ndef g(a): return f(a)", "def f(a): return a\ndef g(a): return f(a)"),
        (
            "def fact(n):\n    return 1 if n < 2 else n * fact(n - 1)",
            "def f(n):\n    return 1 if n < 2 else n * f(n - 1)",
        ),
        ("def e(a): return a.e + e(1, e=2)", "def f(a): return a.e + f(1, e=2)"),
        ("é = 'é'; \ndef été(a): return été(é)", "é = 'é'; \ndef f(a): return f(é)"),
        ("def go(a):\r\n    return go(a)", "def f(a):\n    return f(a)"),
        ("x = 1\x0c\ndef go(a): return go(a)", "x = 1\x0c\ndef f(a): return f(a)"),
    ],
)
def test_the_entry_is_called_f(program: str, wanted: str) -> None:
    assert renamed(program) == wanted


@pytest.mark.parametrize(
    "program",
    [
        "x = 1",
        "class A:\n    def f(self): return 1",
        "f = lambda a: a\ndef go(a): return f(a)",
        "def go(f): return f",
        "def go(a):\n    go = 1\n    return go",
        "def go(a):\n    def go(b): return b\n    return go(a)",
        "import go\ndef go(a): return a",
        "def go(a):\n    global go\n    return go",
        "def \\\ngo(a): return a",
        "def ｇｏ(a): return a",
        "def go(a",
        "",
    ],
)
def test_where_renaming_could_change_the_meaning_the_draft_is_rejected(program: str) -> None:
    with pytest.raises(Rejected) as caught:
        renamed(program)
    assert caught.value.status == "REJECTED"


def test_several_functions_are_allowed_unless_switched_off() -> None:
    draft = Draft("def g(a): return a\ndef f(a): return g(a)", ("1",))
    assert vet(draft, RULES) == draft
    with pytest.raises(Rejected, match="more than one function"):
        vet(draft, DraftRules(reject_multiple_functions=True))


def test_held_out_programs_are_turned_away_when_asked_for() -> None:
    drafts = [Draft(f"def f(a):\n    return a + {n}", ("1",)) for n in range(100)]
    held_out = 0
    for draft in drafts:
        assert vet(draft, RULES) == draft
        try:
            vet(draft, DraftRules(hold_out=True))
        except Rejected as why:
            assert why.status == "HELD_OUT" and is_held_out(draft.program)
            held_out += 1
    assert 5 < held_out < 40  # three in sixteen


def test_an_empty_input_is_none() -> None:
    with pytest.raises(Rejected, match="empty"):
        vet(Draft("def f(): return 1", ("",)), RULES)


@given(st.text(alphabet=st.sampled_from('def go(a):\n return f;=\\"#é'), max_size=120))
def test_vetting_ends_in_a_draft_or_a_rejection(program: str) -> None:
    with contextlib.suppress(Rejected, SyntaxError):  # a few errors are the compiler's alone
        compile(vet(Draft(program, ("1",)), RULES).program, "p", "exec", dont_inherit=True)
