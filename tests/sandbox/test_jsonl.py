"""The one reader of JSON lines, and that every command reads with it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax import cli
from azr_jax.errors import UserError
from azr_jax.evals.harness import load_tasks
from azr_jax.inference import _read_prompts
from azr_jax.selfplay.seeds import load_seeds
from sandbox import Job, Sandbox, jsonl
from sandbox.__main__ import read_jobs
from sandbox.verify import TaskError, verify_file

# For each reader a good row, with text that some take for the end of a line.
BREAKS = "\u2028 \u2029 \x85 \x0b \x0c \x1c \r é 😀"
PROGRAM = f"def f(a): return a # {BREAKS}"
TRIPLET = {"program": PROGRAM, "input": "1", "output": "1"}
ROWS: dict[str, dict[str, Any]] = {
    "seeds": {"snippet": PROGRAM, "input": "1"},
    "eval": {"id": BREAKS, "task_type": "deduction", "category": "", "task": TRIPLET},
    "prompts": {"id": BREAKS, "prompt": BREAKS},
    "verify": {"id": BREAKS, "task": "deduction", "output": "1", "answer": "1", "more": BREAKS},
}


def verified(path: Path) -> list[Any]:
    with Sandbox(level=1) as box:
        return list(verify_file(path, box))


READERS: dict[str, Callable[[Path], list[Any]]] = {
    "seeds": load_seeds,
    "eval": load_tasks,
    "prompts": _read_prompts,
    "verify": verified,
}
every = pytest.mark.parametrize("name", READERS)


def raw(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def refused(name: str, path: Path) -> str:
    with pytest.raises((UserError, TaskError)) as caught:
        READERS[name](path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@every
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_a_line_ends_at_its_end(
    name: str, end: bytes, before: bytes, last: bool, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    line = raw(ROWS[name])
    path.write_bytes(before + line + end + line + (end if last else b""))
    assert len(READERS[name](path)) == 2


@every
def test_a_gzipped_file_is_unpacked(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    packed = gzip.compress(raw(ROWS[name]) + b"\n")
    path.write_bytes(packed)
    assert len(READERS[name](path)) == 1
    path.write_bytes(packed[:-9])
    assert "gzip" in refused(name, path)


@every
@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"id": "caf\xe9"}', "0xe9 in column 12 as UTF-8"),
        ("{}".encode("utf-16"), "0xff in column 1"),
        (b"\x00\x00", ""),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"id": NaN}', "NaN"),
        (b'{"id": -Infinity}', "Infinity"),
        (b'{"id": 1e999}', "beyond all floats"),
        (b'{"id": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"id": ' + b"[" * 101 + b"]" * 101 + b"}", "nested deeper"),
        (b'{"id": ' * 100_000, "nested deeper"),
        (b"{} {}", ""),
        (b"{}\r{}", ""),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else value,
)
def test_a_bad_line_is_named(name: str, line: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(raw(ROWS[name]) + b"\n" + line + b"\n")
    message = refused(name, path)
    assert why in message
    assert ":2: " in message or "line 2: " in message


@every
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    assert "directory" in refused(name, tmp_path)
    assert "o such" in refused(name, tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    assert READERS[name](tmp_path / "empty.jsonl") == []


@pytest.mark.parametrize("name", ["seeds", "eval", "prompts"])
def test_what_becomes_a_prompt_is_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**ROWS[name], "more": "\ud800"}) + "\n")
    assert r"half a surrogate pair, \ud800" in refused(name, path)
    path.write_text(json.dumps({**ROWS[name], "more": "\U0001f600"}) + "\n")  # two halves
    assert len(READERS[name](path)) == 1


@every
def test_blank_lines_are_no_lines(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    line = raw(ROWS[name])
    path.write_bytes(line + b"\n \n\r\n" + line + b"\n")
    if name == "prompts":  # one completion a line: a blank one is a prompt that got lost
        assert ":2: " in refused(name, path)
    else:
        assert len(READERS[name](path)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"snippet": 3},
        {"input": 3},
        {"inputs": "12"},
        {"inputs": [1]},
        {"imports": [1]},
        {"imports": "import re"},
        {"inputs": ["1"], "message": None},
    ],
)
def test_a_seed_of_another_type_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text(json.dumps({**ROWS["seeds"], **change}))
    assert ":1: not a seed" in refused("seeds", path)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "input"},
        {"task": {**TRIPLET, "program": 3}},
        {"category": ["x"]},
        {"task_type": ["deduction"]},
        {
            "task_type": "induction",
            "task": {"program": "", "inputs": ["1"], "outputs": [], "message": ""},
        },
    ],
)
def test_an_eval_task_of_another_type_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({**ROWS["eval"], **change}))
    assert ":1: not a task" in refused("eval", path)


def test_jobs_are_read_by_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    job = raw({"id": BREAKS, "code": PROGRAM, "inputs": ["1"]})
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + job + b"\r\n\n" + b'{"id": 1e999}\n' + job))
    ids, jobs = read_jobs(path)
    assert ids == [BREAKS, None, BREAKS]
    assert [isinstance(job, Job) for job in jobs] == [True, False, True]


def test_verify_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(raw(ROWS["verify"]) + b'\n{"id": "\xe9"}\n')
    assert cli.main(["verify", str(path), "--sandbox_level", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{path}, line 2: " in error


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(), values))
def test_what_was_read_can_be_written_and_read_again(fields: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        line = json.dumps(fields, ensure_ascii=ascii_only).encode("utf-8", "backslashreplace")
        assert b"\n" not in line
        again = jsonl.parse(line)
        assert json.dumps(again, allow_nan=False) == json.dumps(fields)
