"""The table of docs/soak.md, from what pytest reports: python soak_summary.py REPORT.xml PAGE.md

A soak may be run in parts (`make soak SOAK=tests/hostile`): the rows of tests that were not run now
stay as they are, with the day and the revision that they were run on.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

HEAD = """\
# The soak tests

The full counts, by `make soak`, which writes this page. `make test` runs a few of the same cases.
Last run on {machine}: {verdict}. Each row is of the day and the revision that it names.

| test | day | revision | cases | passed | failed | skipped | seconds |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
"""

_ROW = re.compile(r"^\| (`[^`]+`) (\|.*)$", flags=re.MULTILINE)


def summary(report: Path, page: str, revision: str) -> str:
    """The page anew: one row a test function, whose cases are counted."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0, 0.0])
    for case in suite.iter("testcase"):
        path = case.get("classname", "").replace(".", "/") + ".py"
        row = counts[f"`{path}::{case.get('name', '').partition('[')[0]}`"]
        bad = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        row[0] += 1
        row[1 + (1 if bad else 2 if skipped else 0)] += 1
        row[4] += float(case.get("time", 0))
    day = suite.get("timestamp", "")[:10]
    rows = dict(_ROW.findall(page)) | {
        name: f"| {day} | {revision} | {' | '.join(f'{n:.0f}' for n in row)} |"
        for name, row in counts.items()
    }
    failed = sum(row[2] for row in counts.values())
    python = platform.python_version()
    head = HEAD.format(
        machine=f"{os.cpu_count()} CPU cores ({platform.system()}, Python {python})",
        verdict=f"{failed:.0f} failed" if failed else "all passed",
    )
    return head + "".join(f"| {name} {rows[name]}\n" for name in sorted(rows))


def revision_beside(page: Path) -> str:
    """The commit that is checked out, with a plus where more than the page differs from it."""

    def git(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *command], capture_output=True, text=True, check=False)

    changed = git("diff", "--quiet", "HEAD", "--", ".", f":!{page}").returncode
    return git("rev-parse", "--short", "HEAD").stdout.strip() + ("+" if changed else "")


if __name__ == "__main__":
    page = Path(sys.argv[2])
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    text = summary(Path(sys.argv[1]), before, revision_beside(page))
    page.write_text(text, encoding="utf-8")
