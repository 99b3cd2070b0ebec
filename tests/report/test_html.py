"""The report is one file, draws what is there, and model text stays text."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from azr_jax.errors import UserError
from azr_jax.report.html import write_report
from azr_jax.report.metrics import SegmentWriter
from azr_jax.report.summary import write_summary
from tests.report.test_summary import example

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=y>\x00\udc80</pre></details>"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def run_directory(folder: Path, steps: int = 3) -> Path:
    metrics = SegmentWriter(folder / "metrics")
    samples = SegmentWriter(folder / "samples")
    for step in range(steps):
        row = {"step": step, "loss": 1.0 / (step + 1), "reward/propose/deduction": -0.5}
        metrics.append(row | {"reward/solve/deduction": math.nan if step else 0.5, "note": "x"})
        samples.append({"step": step, "reward": 0.5, "completion": HOSTILE, "inputs": ["1", "2"]})
    metrics.seal()
    samples.seal()
    (folder / "config.gin").write_text("PlayConfig.batch_size = 4 # <b>")
    return folder


def test_whole_report(tmp_path: Path) -> None:
    run_directory(tmp_path)
    write_summary(example(), tmp_path)
    out = write_report(tmp_path)
    assert out == tmp_path / "report.html"
    text = out.read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not tags.seen & {"script", "img", "link", "iframe", "b"}
    assert "polyline" in tags.seen
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text
    for part in ("+10.0 ± 1.1", "propose/deduction", "&lt;script&gt;", "PlayConfig.batch_size"):
        assert part in text


def test_unfinished_run_of_one_step(tmp_path: Path) -> None:
    run_directory(tmp_path, steps=1)
    out = write_report(tmp_path, tmp_path / "other.html")
    assert "not finished" in out.read_text()


@pytest.mark.parametrize("make", [False, True])
def test_what_is_no_run_is_refused(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "metrics").mkdir()
    with pytest.raises(UserError, match="no metrics"):
        write_report(tmp_path)
