"""The public interface, on a real sandbox."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import Job, Limits, Sandbox, SandboxUnavailable, Status, dispatcher, probe
from sandbox.literals import equal
from tests.until import until

ROOT = Path(__file__).parents[2]
LIMITS = Limits(cpu_s=0.2, wall_s=30.0, memory_mb=64)


@pytest.fixture(scope="module")
def box():
    with Sandbox(limits=LIMITS, workers=2) as sandbox:
        yield sandbox


def one(box, code, *inputs, **fields):
    return box.run([Job(code, inputs, **fields)])[0]


def test_values_and_order(box):
    jobs = [
        Job("def f(a, b):\n    return [a, b]", (f"{i}, {{'k': {i}}}",), id=str(i))
        for i in range(50)
    ]
    outcomes = box.run(jobs)
    assert [o.id for o in outcomes] == [str(i) for i in range(50)]
    assert [o.outputs for o in outcomes] == [(f"[{i}, {{'k': {i}}}]",) for i in range(50)]
    assert all(o.status is Status.OK and o.cpu_ms > 0 and o.error is None for o in outcomes)


def test_inputs_are_what_the_call_saw(box):
    code = "limit = 3\ndef f(x, n=0):\n    x.append(1)\n    return x"
    outcome = one(box, code, "[ 1,2 ]", "list(range(limit)), 0x10", "[len], 1", "undefined")
    assert outcome.inputs == ("[1, 2]", "[0, 1, 2], 16", None, None)
    assert outcome.outputs == ("[1, 2, 1]", "[0, 1, 2, 1]", None, None)
    assert [str(s) for s in outcome.statuses] == ["OK", "OK", "UNSUPPORTED", "RAISED"]
    assert outcome.status is Status.UNSUPPORTED


def test_no_arguments_and_no_inputs(box):
    assert one(box, "def f(): return 7", "").outputs == ("7",)
    loaded = one(box, "def f(): pass")
    assert (loaded.status, loaded.statuses, loaded.outputs) == (Status.OK, (), ())
    for code in ("1 / 0\ndef f(): pass", "x = 1"):
        assert one(box, code).status is Status.RAISED


def test_namespace_is_fresh_per_input(box):
    code = "seen = []\ndef f(x):\n    seen.append(x)\n    return seen"
    assert one(box, code, "1", "2").outputs == ("[1]", "[2]")


def test_a_killed_input_spares_the_others(box):
    code = "import os\ndef f(n):\n    while n == 1: pass\n    if n == 2: os.abort()\n    return n"
    outcome = one(box, code, "0", "1", "2", "3", "4")
    assert [str(s) for s in outcome.statuses] == ["OK", "TIMEOUT", "CRASHED", "OK", "OK"]
    assert outcome.outputs == ("0", None, None, "3", "4")
    assert outcome.status is Status.TIMEOUT


def test_stop_at_failure(box):
    code = "def f(n):\n    while n == 1: pass\n    return n"
    before = box.stats()["forks"]
    outcome = one(box, code, "0", "1", "1", "2", stop_at_failure=True)
    assert [str(s) for s in outcome.statuses] == ["OK", "TIMEOUT", "TIMEOUT", "TIMEOUT"]
    assert box.stats()["forks"] == before + 1


def test_each_call_has_its_own_cpu_budget(box):
    code = (
        "import time\ndef f(n):\n    end = time.process_time() + 0.12\n"
        "    while time.process_time() < end: pass\n    return n"
    )
    assert one(box, code, "1", "2", "3", "4").status is Status.OK


def test_deterministic(box):
    assert one(box, "def f(s): return set(s)", "'abcdef'", deterministic=True).status is Status.OK
    for body in ("list(set('abcdefgh'))", "hash('a')", "id(f)", "__import__('time').time_ns()"):
        outcome = one(box, f"def f(): return {body}", "", deterministic=True)
        assert outcome.status is Status.NONDETERMINISTIC, body
    mixed = one(box, "def f(x): return id(f) if x else 0", "0", "1", deterministic=True)
    assert [str(s) for s in mixed.statuses] == ["OK", "NONDETERMINISTIC"]
    assert one(box, "def f(): return float('nan')", "").outputs == ("float('nan')",)


def test_equal_jobs_share_a_run(box):
    code = "def f(x):\n    s = 0\n    for i in range(1000): s += i\n    return s"
    before = box.stats()["forks"]
    outcomes = box.run([Job(code, ("1",), id=str(i)) for i in range(20)])
    assert box.stats()["forks"] == before + 1
    assert [o.id for o in outcomes] == [str(i) for i in range(20)]
    assert box.run([Job(code, ("1",))])[0].outputs == outcomes[0].outputs
    assert box.stats()["forks"] == before + 1
    other = Limits(cpu_s=0.3, wall_s=30.0, memory_mb=64)
    box.run([Job(code, ("1",), limits=other)])
    assert box.stats()["forks"] == before + 2


def test_submit_from_many_threads(box):
    results: dict[int, str | None] = {}

    def work(k):
        for i in range(k * 20, k * 20 + 20):
            results[i] = box.submit(Job(f"def f(): return {i}", ("",))).result().outputs[0]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: str(i) for i in range(100)}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.one_of(
    st.none(), st.integers(), st.floats(allow_nan=False), st.text(st.characters()), st.binary(),
    st.sets(st.integers()), st.dictionaries(st.text(max_size=3), st.lists(st.booleans())),
)))  # fmt: skip
def test_identity_hands_back_the_value(box, value):
    text = repr(value).replace("inf", "1e999")
    outcome = one(box, "def f(x): return x", text)
    assert outcome.status is Status.OK
    assert equal(outcome.outputs[0], text) and outcome.inputs == outcome.outputs


def test_big_jobs_and_results(box):
    text = repr("x" * 60000)
    assert one(box, f"def f(s):\n    '''{'y' * 300000}'''\n    return s", text).outputs == (text,)
    many = box.run([Job("def f(s): return s", tuple(repr(c * 60000) for c in "abcdefgh"))])[0]
    assert many.status is Status.OK and many.outputs == tuple(repr(c * 60000) for c in "abcdefgh")
    assert one(box, "x" * (9 << 20), "1").status is Status.UNSUPPORTED


def test_odd_sources(box):
    for code in (
        "def f():\r\n\treturn 1\r\n",
        "# coding: latin-1\ndef f(): return 1",
    ):
        assert one(box, code, "").outputs == ("1",)
    for code in ("def f(): return '\ud800'", "x\0", "-" * 100000 + "1", "(" * 5000):
        assert one(box, code, "").status in (Status.RAISED, Status.CRASHED, Status.OOM)


def test_killed_zygotes_lose_no_job():
    """Two kills can hit one job at most twice: within its retries."""
    code = "def f():\n    s = 0\n    for i in range(20000): s += i\n    return {k}"
    with Sandbox(limits=LIMITS, workers=2, cache_size=0) as box:
        for start in (0, 100):
            numbers = range(start, start + 100)
            futures = [box.submit(Job(code.format(k=k), ("",))) for k in numbers]
            until(lambda: box.stats()["busy"])
            for pid in box.zygote_pids()[:2]:
                os.kill(pid, signal.SIGKILL)
            assert [f.result().outputs for f in futures] == [(str(k),) for k in numbers]
        assert box.stats()["zygotes_lost"] > 0 and box.stats()["INFRA"] == 0


def test_close_leaves_no_process_and_answers_all():
    box = Sandbox(limits=LIMITS, workers=2)
    futures = [box.submit(Job(f"def f():\n    while True: {k}", ("",))) for k in range(20)]
    pids = box.zygote_pids()
    box.close()
    assert {f.result().status for f in futures} <= {Status.INFRA, Status.TIMEOUT}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(RuntimeError):
        box.submit(Job("x"))


def test_level_1_contains_hangs_and_strays():
    with Sandbox(limits=LIMITS, level=1, workers=1) as box:
        stray = (
            "import os, time\ndef f():\n    pid = os.fork()\n"
            "    if not pid: time.sleep(600)\n    return pid"
        )
        outcome = one(box, stray, "")
        assert outcome.status is Status.OK
        assert not Path(f"/proc/{outcome.outputs[0]}").exists()
        assert one(box, "def f():\n    while True: pass", "").status is Status.TIMEOUT
        assert one(box, "def f(): return 1", "").outputs == ("1",)


def test_refused_level_names_what_is_missing(monkeypatch):
    monkeypatch.setattr("sandbox.probe._passed", set())
    monkeypatch.setattr("sandbox.probe._LOOP", "def f(): return 1")
    with pytest.raises(SandboxUnavailable, match=r"endless loop.*SANDBOX_LEVEL=1"):
        Sandbox(limits=LIMITS, workers=1)


def test_imports_nothing_heavy():
    code = (
        "import sandbox, sys; print([m for m in ('jax', 'numpy', 'azr_jax') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT).strip() == b"[]"


def test_stats_tell_the_price_of_timeouts_and_of_waiting():
    loop = "def f(x):\n    while True: pass"
    with Sandbox(limits=Limits(cpu_s=0.1), workers=1) as box:
        before, started = box.stats(), time.monotonic()
        jobs = [Job(loop, (str(i),)) for i in range(2)] + [Job("def f(x): return x", ("1",))]
        futures = [box.submit(job) for job in jobs]
        submitted_s = time.monotonic() - started
        for future in futures:
            future.result()
        after = box.stats()
    spent = {name: after[name] - before[name] for name in after}
    assert spent["TIMEOUT"] == 2 and spent["OK"] == 1 and spent["forks"] == 3
    assert 0.19 <= spent["timeout_cpu_s"] <= spent["cpu_s"]
    assert spent["queue_wait_s"] >= 0.1 - submitted_s  # the last waited for the first


@pytest.fixture
def without_linux(monkeypatch):
    """Zygotes that take this for another system; the parent is as it is."""
    elsewhere = "import sys; sys.platform = 'darwin'; "
    monkeypatch.setattr(dispatcher, "_BOOTSTRAP", elsewhere + dispatcher._BOOTSTRAP)
    monkeypatch.setattr(probe, "_passed", set())


def test_level_1_without_linux(without_linux):
    with Sandbox(limits=LIMITS, level=1) as box:
        outcomes = box.run([
            Job("def f(x): return x + 1", ("1", "2"), deterministic=True),
            Job("def f(x):\n    while True: pass", ("1", "2")),
            Job("import signal\ndef f(x):\n    signal.signal(signal.SIGPROF, signal.SIG_IGN)\n"
                "    while True: pass", ("1",)),
            Job("import time\ndef f(x): time.sleep(60)", ("1",),
                limits=Limits(cpu_s=0.2, wall_s=0.5, memory_mb=64)),
            Job("import os\ndef f(x): os.abort()", ("1",)),
        ])  # fmt: skip
        assert box.stats()["INFRA"] == 0
    assert [o.status for o in outcomes] == ["OK", "TIMEOUT", "TIMEOUT", "TIMEOUT", "CRASHED"]
    assert outcomes[0].outputs == ("2", "3")
    assert outcomes[1].statuses == ("TIMEOUT", "TIMEOUT")


@pytest.mark.parametrize("level", [2, 3])
def test_no_more_than_level_1_without_linux(without_linux, level):
    with pytest.raises(SandboxUnavailable, match="missing an x86-64 or aarch64 Linux kernel"):
        Sandbox(level=level)


@pytest.mark.parametrize(
    ("text", "output", "seen"),
    [
        ("b = [2], a = 1", "(1, [2])", "1, [2]"),
        ("1, b=2", "(1, 2)", "1, 2"),
        ("a=1", "(1, 7)", "1"),
        ("b=2", None, None),  # what `a` is then, only a call could tell
        ("1, a=1", None, None),
        ("c=3, a=1", None, None),
        ("**{'a': 1}", None, None),
        ("*[1]", None, None),
    ],
)
def test_named_arguments_are_put_in_order(box, text, output, seen):
    (outcome,) = box.run([Job("def f(a, b=7): return a, b", (text,), deterministic=True)])
    assert outcome.outputs == (output,) and outcome.inputs == (seen,)
    assert outcome.status == ("OK" if output else "RAISED")
