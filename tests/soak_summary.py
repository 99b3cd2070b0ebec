"""The table of docs/soak.md, from what pytest reports: python soak_summary.py REPORT.xml OUT.md"""

from __future__ import annotations

import os
import platform
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

HEAD = """\
# The soak tests

The full counts, by `make soak`, which writes this page. `make test` runs a few of the same cases.

{date}, on {machine}: {verdict}.

| test | cases | passed | failed | skipped | seconds |
| --- | ---: | ---: | ---: | ---: | ---: |
"""


def summary(report: Path) -> str:
    """One row a test function; its cases are counted."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    rows: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0, 0.0])
    for case in suite.iter("testcase"):
        path = case.get("classname", "").replace(".", "/") + ".py"
        row = rows[f"`{path}::{case.get('name', '').partition('[')[0]}`"]
        bad = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        row[0] += 1
        row[1 + (1 if bad else 2 if skipped else 0)] += 1
        row[4] += float(case.get("time", 0))
    failed = sum(row[2] for row in rows.values())
    head = HEAD.format(
        date=suite.get("timestamp", "")[:10],
        machine=f"{os.cpu_count()} CPU cores ({platform.system()}, Python "
        f"{platform.python_version()})",
        verdict=f"{failed:.0f} failed" if failed else "all passed",
    )
    return head + "".join(
        f"| {name} | {' | '.join(f'{n:.0f}' for n in row)} |\n" for name, row in rows.items()
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(summary(Path(sys.argv[1])), encoding="utf-8")
