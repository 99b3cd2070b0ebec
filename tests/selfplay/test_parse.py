from __future__ import annotations

import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from azr_jax.selfplay.parse import GRAMMARS, answer_text, fences, well_formed
from azr_jax.selfplay.prompts import compact

PAPER, COMPACT = GRAMMARS["paper"], GRAMMARS["compact"]
SECOND_TURN = "\nUser: another task\nAssistant: <think> b </think> <answer>7</answer>"
ASSISTANT = "'\nAssistant: <think>'"
PIECES = ["thoughts ", "</think>", "<answer>", "</answer>", "\nAssistant:", " \n"]
QUOTING = 'def f(a):\n    """Like ``` this, or:\n    ```\n    f(1)\n    ```"""\n    return a'
LINES = ["```", "````", "~~~", "``` one", "~~~ two three", "   ```", "    ```", "```a`b", "x", ""]


@pytest.mark.parametrize(
    ("text", "formed", "answer"),
    [
        ("a</think><answer>1</answer>", True, "1"),
        ("a </think>\n\n <answer> 1 </answer> and so on", True, "1"),
        ("</think><answer></answer>", True, ""),
        ("a<answer>1</answer>", False, "1"),
        ("a</think> so <answer>1</answer>", False, "1"),
        ("a</think><answer>1", False, None),
        ("a</answer></think><answer>1", False, None),
        ("I write <answer>0</answer> in</think><answer>1</answer>", True, "1"),
        ("a</think><answer>1</answer> or <answer>2</answer>", True, "1"),
        ("a</think><answer>1</answer> The final <answer> is 2", True, "1"),
        ("a</think><answer>1</answer>\nUser: q\nAssistant: <think>b", True, "1"),
        (f"a</think><answer>1</answer>{SECOND_TURN}", True, "1"),
        (f"a</think><answer>'\nAssistant: <think>'</answer>{SECOND_TURN}", True, ASSISTANT),
        (f"a <answer>1</answer>{SECOND_TURN}", False, "1"),
        (f"a</think> so 1{SECOND_TURN}", False, None),
        (f"a</think><answer>1{SECOND_TURN}", True, "7"),
        ("a</think><answer>wait</think><answer>1</answer>", True, "1"),
        ("<answer>1</answer> and <answer>", False, "1"),
        ("the Assistant: must say </think> <answer>1</answer>", True, "1"),
        ("a</think>b</think><answer>1</answer>", True, "1"),
        ("", False, None),
    ],
)
def test_think_and_answer_tags(text: str, formed: bool, answer: str | None) -> None:
    assert well_formed(text) is formed
    assert answer_text(text) == answer


def test_what_compact_writes_it_reads() -> None:
    proposal = answer_text(compact.proposal("def f(a):return a+1", "3"))
    assert proposal is not None
    assert COMPACT.proposal(proposal) == ("def f(a):return a+1", "3")
    induction = answer_text(compact.induction_proposal(["1", "[2]"], "add one"))
    assert induction is not None
    assert COMPACT.induction_proposal(induction) == (("1", "[2]"), "add one")
    assert well_formed(compact.answer("5")) and answer_text(compact.answer("5")) == "5"


@pytest.mark.parametrize("text", ["", "def f(a): return a", "<input>1", "junk<input>1<message>m"])
def test_compact_proposals_with_a_part_missing(text: str) -> None:
    assert COMPACT.induction_proposal(text) is None
    assert COMPACT.proposal("def f(a): return a") is None


def test_fences_and_their_labels() -> None:
    text = (
        "x\n```python\ndef f(a):\n    return a\n```\n```Input\n1,\n2\n```\n```input 3```\n``` open"
    )
    assert fences(text) == [
        ("python", "def f(a):\n    return a"),
        ("input", "1,\n2"),
        ("input", "3"),
    ]


def test_a_paper_proposal() -> None:
    program = "def f(a):\n    return a"
    assert PAPER.proposal(f"```python\n{program}\n```\n```input\n1\n```") == (program, "1")
    assert PAPER.proposal(f"```\n{program}\n```\n# Input: 1, 2") == (program, "1, 2")
    assert PAPER.proposal(f"```python\n{program}\n```") is None
    assert PAPER.proposal("```input\n1\n```") is None


def test_a_paper_induction_proposal() -> None:
    text = "```input\n1\n```\n```input\n2\n```\n```message\nGuess!\n```"
    assert PAPER.induction_proposal(text) == (("1", "2"), "Guess!")
    assert PAPER.induction_proposal("```input\n1\n```\n<message>Guess!</message>") == (
        ("1",),
        "Guess!",
    )
    assert PAPER.induction_proposal("```input\n1\n```") is None


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=40))
def test_what_is_well_formed_stays_so_with_the_same_answer(text: str, rest: str) -> None:
    if well_formed(text):
        assert well_formed(text + rest) and answer_text(text + rest) == answer_text(text)


@pytest.mark.parametrize(
    "fenced",
    [
        f"```python\n{QUOTING}\n```",
        f"````python\n{QUOTING}\n````",
        f"~~~python\n{QUOTING}\n~~~",
        "Here it is:\n" + textwrap.indent(f"```Python title=x\n{QUOTING}\n```", "  ") + "\nDone.",
        f"```python\r\n{QUOTING}\r\n```\r\n",
        f"```python\n{QUOTING}\n`````` \n",
        f"```python\n{QUOTING}\n``` \n```output\n3\n```",
        f"```python\n{QUOTING}",
        f"```python\n{QUOTING}```",
        f"    ```\n    no fence: indented\n```python\n{QUOTING}\n```",
    ],
)
def test_a_program_may_hold_backticks(fenced: str) -> None:
    program = PAPER.program(fenced)
    assert program is not None and program.replace("\r", "") == QUOTING


def test_a_longer_fence_holds_whole_fences() -> None:
    inner = '"""\n```input\n1\n```\n"""\ndef f(a): return a'
    assert PAPER.program(f"````python\n{inner}\n````") == inner
    assert PAPER.proposal(f"````python\n{inner}\n````\n```input\n2\n```") == (inner, "2")


@given(st.lists(st.sampled_from(LINES), max_size=8))
def test_fences_are_those_of_commonmark(lines: list[str]) -> None:
    """Against markdown-it, with all of Markdown but fences turned off; labels are not ours."""
    text = "\n".join(lines)
    blocks = MarkdownIt("zero").enable(["fence", "code"]).parse(text)
    expected = [
        (block.info.strip().partition(" ")[0], block.content.strip("\n").rstrip())
        for block in blocks
        if block.type == "fence"
    ]
    written = [found for found in expected if found[1].strip()]
    # Where there is none, or one stands open with marks in it, we read on as people do.
    if written and not any(mark in expected[-1][1] for mark in ("```", "~~~")):
        assert [found for found in fences(text) if found[1].strip()] == written


@pytest.mark.parametrize(
    ("text", "program", "arguments"),
    [
        ("```python\nP\n```input\n1, 2\n```", "P", "1, 2"),
        ("```python\nP\n# Input: 1, 2\n```", "P\n# Input: 1, 2", "1, 2"),
        ("```python\nP```\n```input\n1, 2```", "P", "1, 2"),
        ("```python\nP\n```\n```input\n1, 2", "P", "1, 2"),
        ("```python\nP\n```\nThe input is 1, 2.", "P", "1, 2"),
        ("Like this: ```python\nP\n``` with ```input\n1, 2\n```", "P", "1, 2"),
    ],
)
def test_proposals_that_people_can_read(text: str, program: str, arguments: str) -> None:
    assert PAPER.proposal(text) == (program, arguments)


@pytest.mark.parametrize(
    "answer",
    [
        "```output\n[1, 2]\n```",
        "```output\n[1, 2]",
        "```output\n[1, 2]```",
        "```output\n[1, 2]```\nbecause of the loop.",
        "```output\n[1, 2]  # two of them\n```",
        "```output\n# a list\n[1, 2]\n```",
        "```output [1, 2]```",
        "```Output:\n[1, 2]\n```",
        "The output is [1, 2].",
        "```\n# Output: [1, 2]\n```",
        "<output>[1, 2]",
        "[1, 2] # comment",
        "first ```output\n0\n``` no: ```output\n[1, 2]\n```",
        "# Output: [1, 2]",
        "The output is [1, 2]",
        "the output is: [1, 2]",
        "output([1, 2])",
        "<output>[1, 2]</output>",
        "[1, 2]",
    ],
)
def test_the_ways_to_give_a_value(answer: str) -> None:
    assert PAPER.value(answer, "output") == "[1, 2]"


def test_a_string_that_looks_like_a_mark_is_left_alone() -> None:
    assert PAPER.value("'output(3) and # Output: 4'", "output") == "'output(3) and # Output: 4'"
    assert PAPER.value("'a # b'  # c 'd'", "output") == "'a # b'"
    assert PAPER.value("['#', \"#\", '''#\n#''', '\\'#']#", "output").endswith("'\\'#']")


def test_the_last_program_is_the_answer_to_an_induction_task() -> None:
    text = "```python\ndef f(a): return 1\n```\nbetter:\n```python\ndef f(a): return 2\n```"
    assert PAPER.program(text) == "def f(a): return 2"
    assert PAPER.program("def f(a): return 2") is None


@given(st.text(alphabet=st.sampled_from("`<>/# \ninputaoswermg(:)1"), max_size=300))
def test_no_text_breaks_a_reader(text: str) -> None:
    well_formed(text), answer_text(text)
    for grammar in GRAMMARS.values():
        grammar.proposal(text), grammar.induction_proposal(text)
        grammar.value(text, "input"), grammar.program(text)


@pytest.mark.parametrize(
    "unit",
    [
        *("</think> ", "<answer>", "```", "``` \t", "def ", "# Input: \n", "<input>", " \n", "`"),
        *("Assistant: ", "\nAssistant:", "\n ", "</answer>", "\\'", "'#", "'''", "```input\n"),
    ],
)
def test_reading_takes_time_in_proportion_to_the_text(unit: str) -> None:
    text = unit * 20_000
    start = time.process_time()
    well_formed(text), answer_text(text)
    for grammar in GRAMMARS.values():
        grammar.proposal(text), grammar.induction_proposal(text)
        grammar.value(text, "input"), grammar.program(text)
    assert time.process_time() - start < 1.0
