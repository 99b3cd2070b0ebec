"""The page of the soak tests keeps what was not run again."""

from __future__ import annotations

from pathlib import Path

from tests.soak_summary import summary

CASE = '<testcase classname="tests.a.test_b" name="test_c[{}]" time="2.0">{}</testcase>'


def test_rows_of_tests_that_were_not_run_stay(tmp_path: Path) -> None:
    def report(day: str, cases: str) -> Path:
        path = tmp_path / f"{day}.xml"
        path.write_text(
            f'<testsuites><testsuite timestamp="{day}T10:00:00">{cases}</testsuite></testsuites>'
        )
        return path

    other = CASE.format(1, "").replace("test_c", "test_d")
    first = summary(report("2026-11-01", CASE.format(1, "") + other), "", "old")
    again = report("2026-11-02", CASE.format(1, "") + CASE.format(2, "<failure/>"))
    page = summary(again, first, "new")
    assert "| `tests/a/test_b.py::test_c` | 2026-11-02 | new | 2 | 1 | 1 | 0 | 4 |" in page
    assert "| `tests/a/test_b.py::test_d` | 2026-11-01 | old | 1 | 1 | 0 | 0 | 2 |" in page
    assert "1 failed" in page and page.count("| `") == 2
