"""Completion text to structure. The text is hostile data: it is searched, never evaluated.

A completion begins just after the prompt's opened `<think>`. Everything here is linear in its
length: plain searches and splits, and regular expressions that cannot backtrack far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from azr_jax.selfplay.prompts import StyleName

_THINK_THEN_ANSWER = re.compile(r"</think>\s*<answer>")
_NEXT_TURN = re.compile(r"\n[ \t]*Assistant:|Assistant:\s*<think>")
_PYTHON = ("python", "py", "python3")
_LABELS = (*_PYTHON, "input", "output", "message")


def well_formed(text: str) -> bool:
    """Is it `…</think>`, white space, `<answer>…</answer>`? Text after that is allowed.

    The answer is opened in the first turn: what a model makes up after another `Assistant:` does
    not count. A text that is well-formed stays so however it goes on.
    """
    return _first_answer(text) is not None


def answer_text(text: str) -> str | None:
    """What stands between the answer tags of a well-formed completion.

    Of one that is not: the last closed pair of tags in the first turn; None without any.
    """
    found = _first_answer(text)
    if found is None:
        found, closed, _ = text[: _end_of_turn(text)].rpartition("</answer>")
        if not closed or "<answer>" not in found:
            return None
    return found.rpartition("<answer>")[2].strip()


def _first_answer(text: str) -> str | None:
    start = _THINK_THEN_ANSWER.search(text, 0, _end_of_turn(text))
    if start is None:
        return None
    end = text.find("</answer>", start.end())
    return text[start.end() : end] if end >= 0 else None


def _end_of_turn(text: str) -> int:
    """Where the model begins to answer a question of its own making, as base models do."""
    turn = _NEXT_TURN.search(text)
    return turn.start() if turn else len(text)


@dataclass(frozen=True)
class Grammar:
    """How one style's answers are read. Each function takes the text inside the answer tags.

    proposal: (program, input), or None where a part is missing.
    induction_proposal: (inputs, message), or None where a part is missing; one or more inputs.
    value: the answer to a deduction or abduction task; the label is `output` or `input`. Never
        fails: text without any mark is itself the answer.
    program: the answer to an induction task, or None.
    """

    proposal: Callable[[str], tuple[str, str] | None]
    induction_proposal: Callable[[str], tuple[tuple[str, ...], str] | None]
    value: Callable[[str, str], str]
    program: Callable[[str], str | None]


# --- compact: a tag before each part ---------------------------------------------------------


def _compact_proposal(answer: str) -> tuple[str, str] | None:
    program, tag, arguments = answer.partition("<input>")
    return (program.strip(), arguments.strip()) if tag else None


def _compact_induction_proposal(answer: str) -> tuple[tuple[str, ...], str] | None:
    body, tag, message = answer.rpartition("<message>")
    before, *inputs = body.split("<input>")
    if not tag or before.strip() or not inputs:
        return None
    return tuple(text.strip() for text in inputs), message.strip()


def _compact_value(answer: str, label: str) -> str:
    return answer.strip()


def _compact_program(answer: str) -> str | None:
    return answer.strip() or None


# --- paper: labelled fences, with a few fall-backs for models that forget them ---------------

_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})[ \t]*(.*)")
_STRING_OR_COMMENT = re.compile(
    r"\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)"
    r"|\"(?:\\.|[^\"\\\n])*\"?|'(?:\\.|[^'\\\n])*'?|#[^\n]*",
    re.DOTALL,
)


def fences(text: str) -> list[tuple[str, str]]:
    """(label in lower case, content) of each fenced block, in order.

    Fences are CommonMark's (0.31, section 4.5): three backticks or tildes or more at the start of
    a line, closed by a line of at least as many. Beyond it, as people read them: a fence with one
    of our labels ends the one that is still open, ```input 1``` is a fence on one line, and where
    no line begins with a fence, those within lines count.
    """
    found: list[tuple[str, str]] = []
    opened, label, indent, lines = "", "", 0, list[str]()
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line.rstrip("\r"))
        blanks, mark, info = fence.groups() if fence else ("", "", "")
        info = info.strip()
        if opened and not (
            mark[:1] == opened[0]
            and len(mark) >= len(opened)
            and (not info or _label(info) in _LABELS)
        ):
            lines.append(line[:indent].lstrip(" ") + line[indent:])
            continue
        if opened:
            found.append((label, _content(lines, "" if not info else opened)))
            opened, lines = "", []
            if not info:
                continue
        if mark and info.endswith(mark) and mark[0] not in info[: -len(mark)]:
            label, _, content = info[: -len(mark)].partition(" ")
            found.append((_label(label), content.strip()))
        elif mark and not (mark[0] == "`" and "`" in info):
            opened, label, indent = mark, _label(info), len(blanks)
    if opened and any(line.strip() for line in lines):
        found.append((label, _content(lines, opened)))
    return found or _fences_within_lines(text)


def _label(info: str) -> str:
    return info.partition(" ")[0].rstrip(":").lower()


def _content(lines: Sequence[str], unclosed: str) -> str:
    """A block's text; of one that no line closes, up to the mark at the end of a line of it."""
    if unclosed:
        ended = re.compile(rf"\s*[^\s{unclosed[0]}].*{unclosed}\s*")
        kept = [*takewhile(lambda line: not ended.fullmatch(line), lines)]
        lines = [*kept, *(line.rstrip().removesuffix(unclosed) for line in lines[len(kept) :][:1])]
    return "\n".join(lines).strip("\n").rstrip()


def _fences_within_lines(text: str) -> list[tuple[str, str]]:
    parts = text.split("```")
    found = []
    for body in parts[1 : len(parts) - 1 : 2]:
        label, newline, content = body.partition("\n")
        if not newline:
            label, _, content = body.strip().partition(" ")
        found.append((_label(label.strip()), content.strip("\n").rstrip()))
    return found


def _program_fences(text: str) -> list[str]:
    """Contents of the fences labelled as Python, or, where there is none, of the unlabelled."""
    blocks = fences(text)
    labelled = [content for label, content in blocks if label in _PYTHON]
    return labelled or [content for label, content in blocks if not label]


def _marked(text: str, label: str) -> str | None:
    """What follows the last line that begins like `# Input:` or `The input is`; None without.

    It ends at a fence, and a sentence's full stop is not part of it.
    """
    lines = text.split("\n")
    for i in reversed(range(len(lines))):
        line = lines[i].strip()
        for mark in (f"# {label}:", f"{label}:", f"the {label} is:", f"the {label} is "):
            if line[: len(mark)].lower() == mark:
                rest = takewhile(lambda line: not _FENCE.fullmatch(line), lines[i + 1 :])
                found = "\n".join((line[len(mark) :], *rest)).strip()
                return found.removesuffix(".") if mark.startswith("the") else found
    return None


def _paper_proposal(answer: str) -> tuple[str, str] | None:
    programs = _program_fences(answer)
    inputs = [content for label, content in fences(answer) if label == "input"]
    arguments = inputs[0] if inputs else _marked(answer, "input")
    return (programs[0], arguments) if programs and arguments is not None else None


def _paper_induction_proposal(answer: str) -> tuple[tuple[str, ...], str] | None:
    blocks = fences(answer)
    inputs = tuple(content for label, content in blocks if label == "input")
    messages = [content for label, content in blocks if label == "message"]
    message = messages[-1] if messages else _tagged(answer, "message") or _marked(answer, "message")
    return (inputs, message) if inputs and message else None


def _paper_value(answer: str, label: str) -> str:
    value = _STRING_OR_COMMENT.sub(
        lambda found: "" if found[0].startswith("#") else found[0], _value_as_written(answer, label)
    )
    return value.strip()


def _value_as_written(answer: str, label: str) -> str:
    blocks = [content for name, content in fences(answer) if name == label]
    if blocks:
        return blocks[-1]
    if (marked := _marked(answer, label)) is not None:
        return marked
    text = answer.strip()
    call = f"{label}("
    if text[: len(call)].lower() == call and text.endswith(")"):
        return text[len(call) : -1]
    return _tagged(text, label) or text


def _paper_program(answer: str) -> str | None:
    programs = _program_fences(answer)
    return programs[-1] if programs else None


def _tagged(text: str, label: str) -> str | None:
    """What follows the last `<label>`, up to `</label>` where there is one."""
    _, opened, rest = text.rpartition(f"<{label}>")
    return rest.partition(f"</{label}>")[0].strip() if opened else None


GRAMMARS: dict[StyleName, Grammar] = {
    "compact": Grammar(
        _compact_proposal, _compact_induction_proposal, _compact_value, _compact_program
    ),
    "paper": Grammar(_paper_proposal, _paper_induction_proposal, _paper_value, _paper_program),
}
