"""Segments: nothing is lost by a kill, nothing is told twice after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azr_jax.errors import UserError
from azr_jax.report.metrics import SegmentWriter, read_rows


def steps(folder: Path) -> list[int]:
    return [row["step"] for row in read_rows(folder)]


def test_segments_are_numbered_and_sealed(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    for step in range(4):
        writer.append({"step": step})
        if step % 2:
            writer.seal()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["00000.jsonl", "00001.jsonl"]
    assert steps(tmp_path) == [0, 1, 2, 3]


def test_rows_are_on_disk_before_the_seal(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append({"step": 0, "text": "ä\n\udc80"})
    assert list(read_rows(tmp_path)) == [{"step": 0, "text": "ä\n\udc80"}]
    writer.seal()


@given(seals=st.sets(st.integers(0, 9)), restored=st.integers(0, 12), torn=st.booleans())
def test_resume_drops_what_lies_past_the_restored_step(
    tmp_path_factory: pytest.TempPathFactory, seals: set[int], restored: int, torn: bool
) -> None:
    folder = tmp_path_factory.mktemp("metrics")
    writer = SegmentWriter(folder)
    for step in range(10):
        writer.append({"step": step})
        if step in seals:
            writer.seal()
    writer.seal()
    last = sorted(folder.glob("*.jsonl"))[-1]
    if torn:
        with last.open("a") as file:
            file.write('{"step": 1')
    untouched = {
        path: path.stat().st_mtime_ns
        for path in folder.glob("*.jsonl")
        if path != last and all(step < restored for step in segment(path))
    }
    resumed = SegmentWriter(folder, next_step=restored)
    assert steps(folder) == list(range(min(10, restored)))
    for step in range(restored, 14):
        resumed.append({"step": step})
    resumed.seal()
    assert steps(folder) == [*range(min(10, restored)), *range(restored, 14)]
    for path, time in untouched.items():
        assert path.stat().st_mtime_ns == time, "a sealed segment was written again"


def segment(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_only_plain_numbers_reach_the_file(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    row = {"step": np.int32(0), "a": np.float32(0.5), "b": math.nan, "c": (1, math.inf)}
    writer.append(row)
    writer.seal()
    assert list(read_rows(tmp_path)) == [{"step": 0, "a": 0.5, "b": None, "c": [1, None]}]


def test_a_row_needs_its_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step"):
        SegmentWriter(tmp_path).append({"loss": 1.0})


@pytest.mark.parametrize(
    "line", ['{"step": 1', '{"loss": 1}', "[1]", "\\xff", '{"step": null}', '{"step": 1e999}']
)
def test_a_damaged_line_is_named_before_anything_is_dropped(tmp_path: Path, line: str) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append({"step": 0})
    writer.seal()
    path = tmp_path / "00000.jsonl"
    path.write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"00000.jsonl:2 is damaged"):
        SegmentWriter(tmp_path, next_step=1)
    assert path.read_bytes() == before
