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


def test_a_batch_of_everything_bad(tmp_path, capsys):
    """One line in, one line out, in order, each with a reason; the good ones are right."""
    good = {"code": "def f(x): return x", "inputs": ["1"]}
    lines = [
        ({**good, "id": 1}, "OK"),
        ({**good, "id": 1}, "OK"),
        ({**good, "id": {"any": ["thing", None]}}, "OK"),
        ({**good, "id": "\ud800"}, "OK"),
        ({**good, "code": "x" * 10_000_000}, "UNSUPPORTED"),
        ({**good, "code": "# " + "x" * 7_000_000}, "RAISED"),
        ({**good, "code": "def f(x): return 1\0"}, "RAISED"),
        ({**good, "code": "\ud800"}, "RAISED"),
        ({**good, "code": ""}, "RAISED"),
        ({**good, "inputs": ["1 +"]}, "RAISED"),
        ({**good, "inputs": ["1", "[" * 70_000, "\0", "*[1]"]}, "RAISED"),
        ({**good, "inputs": ["1"] * 2000}, "OK"),
        ({**good, "inputs": []}, "OK"),
        ({**good, "entry": "no such"}, "RAISED"),
        ({**good, "entry": ""}, "OK"),
        ({**good, "entry": 3}, "REJECTED"),
        ({**good, "unknown": 3}, "OK"),
        (b"\x00\x01\xfe\xff" * 1000, "REJECTED"),
        (b'{"id": ' + b"9" * 5000 + b"}", "REJECTED"),
        (b'{"code": NaN, "inputs": [Infinity]}', "REJECTED"),
        (b'{"a":' * 100_000, "REJECTED"),
        (b"\x1f\x8b\x08", "REJECTED"),
        ({**good, "id": "last"}, "OK"),
    ]
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_bytes(
        b"\n \n".join(
            fields if isinstance(fields, bytes) else json.dumps(fields).encode()
            for fields, _ in lines
        )
    )
    assert main(["run", str(jobs)]) == 0
    captured = capsys.readouterr()
    got = [json.loads(line) for line in captured.out.splitlines()]
    assert captured.err == ""
    assert [line["status"] for line in got] == [status for _, status in lines]
    for (fields, status), line in zip(lines, got, strict=True):
        assert (line["error"] is None) == (status == "OK")
        assert line["id"] == (fields.get("id") if isinstance(fields, dict) else None)
        if status != "REJECTED":
            assert len(line["statuses"]) == len(line["outputs"]) == len(fields["inputs"])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff", b"\x00" * 100_000, b"PK\x03\x04\n\r\n"])
def test_a_file_without_jobs(tmp_path, capsys, content):
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_bytes(content)
    assert main(["run", str(jobs)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert all(json.loads(line)["status"] == "REJECTED" for line in captured.out.splitlines())


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
