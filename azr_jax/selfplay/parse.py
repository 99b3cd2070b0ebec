"""Completion text to structure. The text is hostile data: it is searched, never evaluated.

A completion begins just after the prompt's opened `<think>`. Everything here is linear in its
length: plain searches and splits, and one regular expression that cannot backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from azr_jax.selfplay.prompts import StyleName

_THINK_THEN_ANSWER = re.compile(r"</think>\s*<answer>")
_PYTHON = ("python", "py", "python3")


def well_formed(text: str) -> bool:
    """Is it `…</think>`, white space, `<answer>…</answer>`? Text after that is allowed."""
    start = _THINK_THEN_ANSWER.search(text)
    return start is not None and text.find("</answer>", start.end()) >= 0


def answer_text(text: str) -> str | None:
    """What stands between the last `<answer>` and the `</answer>` after it; None without both."""
    _, opened, rest = text.rpartition("<answer>")
    answer, closed, _ = rest.partition("</answer>")
    return answer.strip() if opened and closed else None


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


def fences(text: str) -> list[tuple[str, str]]:
    """(label in lower case, content) of each closed ``` fence, in order."""
    bodies = text.split("```")[1::2] if text.count("```") % 2 == 0 else text.split("```")[1:-1:2]
    found = []
    for body in bodies:
        label, newline, content = body.partition("\n")
        if not newline:  # ```input 1, 2```
            label, _, content = body.strip().partition(" ")
        found.append((label.strip().lower(), content.strip("\n").rstrip()))
    return found


def _program_fences(text: str) -> list[str]:
    """Contents of the fences labelled as Python, or, where there is none, of the unlabelled."""
    blocks = fences(text)
    labelled = [content for label, content in blocks if label in _PYTHON]
    return labelled or [content for label, content in blocks if not label]


def _marked(text: str, label: str) -> str | None:
    """What follows the last line that begins like `# Input:` or `The input is`; None without."""
    lines = text.split("\n")
    for i in reversed(range(len(lines))):
        line = lines[i].strip()
        for mark in (f"# {label}:", f"{label}:", f"the {label} is:", f"the {label} is "):
            if line[: len(mark)].lower() == mark:
                return "\n".join((line[len(mark) :], *lines[i + 1 :])).strip()
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
    blocks = [content for name, content in fences(answer) if name == label]
    if blocks:
        return blocks[-1].strip()
    if (marked := _marked(answer, label)) is not None:
        return marked
    text = answer.strip()
    call = f"{label}("
    if text[: len(call)].lower() == call and text.endswith(")"):
        return text[len(call) : -1].strip()
    return _tagged(text, label) or text


def _paper_program(answer: str) -> str | None:
    programs = _program_fences(answer)
    return programs[-1] if programs else None


def _tagged(text: str, label: str) -> str | None:
    """The content where `text` holds `<label>…</label>`; the last one."""
    _, opened, rest = text.rpartition(f"<{label}>")
    content, closed, _ = rest.partition(f"</{label}>")
    return content.strip() if opened and closed else None


GRAMMARS: dict[StyleName, Grammar] = {
    "compact": Grammar(
        _compact_proposal, _compact_induction_proposal, _compact_value, _compact_program
    ),
    "paper": Grammar(_paper_proposal, _paper_induction_proposal, _paper_value, _paper_program),
}
