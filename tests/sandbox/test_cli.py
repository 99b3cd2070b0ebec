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
    "line", [b"{", b"[]", b"3", b'{"id": 7}', b'{"code": 1, "inputs": []}', b"\xff\xfe\x00",
             b'{"code": "", "inputs": "1"}', b'{"code": "", "inputs": [1]}', b"[" * 100_000,
             b'{"code": "", "inputs": [], "deterministic": 1}', b'{"id": 7, "code": "x"}']
)  # fmt: skip
def test_a_line_that_is_no_job_is_rejected_alone(tmp_path, line):
    jobs, out = tmp_path / "jobs.jsonl", tmp_path / "out.jsonl"
    good = b'{"id": 1, "code": "def f(): return 2", "inputs": [""]}\n'
    jobs.write_bytes(good + line + b"\n" + good)
    assert main(["run", str(jobs), "--out", str(out)]) == 0
    first, bad, last = map(json.loads, out.read_text().splitlines())
    assert first["outputs"] == last["outputs"] == ["2"]
    assert bad["status"] == "REJECTED" and "line 2" in bad["error"] and bad["cpu_ms"] == 0
    assert bad["id"] == (7 if b'"id": 7' in line else None)
    assert bad["statuses"] == bad["outputs"] == []


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
