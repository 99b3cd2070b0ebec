"""``python -m sandbox``: formats and exit codes."""

import json

import pytest

from sandbox.__main__ import main


def test_run(tmp_path, capsys):
    jobs = tmp_path / "jobs.jsonl"
    lines = [
        {"id": "a", "code": "def f(x): return x * 2", "inputs": ["2", "[1]"]},
        {
            "id": "b",
            "code": "def g(): return id(g)",
            "inputs": [""],
            "entry": "g",
            "deterministic": True,
        },
        {"id": "c", "code": "def f():\n    while True: pass", "inputs": [""]},
    ]
    jobs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out.jsonl"
    assert main(["run", str(jobs), "--out", str(out), "--cpu_s", "0.2"]) == 0
    got = [json.loads(line) for line in out.read_text().splitlines()]
    assert [set(line) for line in got] == [
        {"id", "status", "statuses", "outputs", "error", "cpu_ms"}
    ] * 3
    assert [line["id"] for line in got] == ["a", "b", "c"]
    assert [line["status"] for line in got] == ["OK", "NONDETERMINISTIC", "TIMEOUT"]
    assert got[0]["statuses"] == ["OK", "OK"] and got[0]["outputs"] == ["4", "[1, 1]"]
    assert got[2]["outputs"] == [None]


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"id": 1}', '{"code": 1, "inputs": []}',
             '{"code": "", "inputs": "1"}',
             '{"code": "", "inputs": [1]}', '{"code": "", "inputs": [], "deterministic": 1}']
)  # fmt: skip
def test_bad_line(tmp_path, capsys, text):
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"id": 1, "code": "", "inputs": []}\n' + text + "\n")
    assert main(["run", str(jobs)]) == 2
    error = capsys.readouterr().err
    assert "line 2" in error and error.count("\n") == 1


def test_missing_file_and_bad_limits(tmp_path, capsys):
    assert main(["run", str(tmp_path / "none.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("")
    assert main(["run", str(jobs), "--cpu_s", "-1"]) == 2
    assert main(["run", str(jobs), "--out", str(tmp_path / "no" / "x")]) == 2


def test_probe(capsys):
    assert main(["probe"]) == 0
    assert "level 2 holds" in capsys.readouterr().out
