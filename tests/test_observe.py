"""A step's row: what the sandbox did in it, and that a sandbox which fails ends the run."""

import os
import signal
import threading

import numpy as np
import pytest

from azr_jax.observe import Health, PolicyMismatch, logprob_gap, sandbox_row
from sandbox import Job, Limits, Sandbox, SandboxUnavailable, Status

GOOD = [Job(f"def f(x):\n    return x + {k}", ("1",)) for k in range(6)]
LOOP = Job("def f(x):\n    while True: pass", ("1",))


def test_a_row_is_of_its_step_alone():
    with Sandbox(limits=Limits(cpu_s=0.1)) as box:
        first = box.stats()
        box.run([*GOOD, LOOP])
        second = box.stats()
        box.run([*GOOD, *GOOD])
        third = box.stats()
    row = sandbox_row(first, second, 2.0, 0.05)
    assert row["sandbox/OK"] == 6 and row["sandbox/TIMEOUT"] == 1
    assert row["sandbox/programs_per_s"] == 7 / 2.0
    assert 0.5 < row["sandbox/timeout_cpu_share"] <= 1
    later = sandbox_row(second, third, 2.0, 0.05)
    assert later["sandbox/jobs"] == 12 and later["sandbox/forks"] == later["sandbox/TIMEOUT"] == 0
    assert later["sandbox/cache_hits"] == 12
    assert later["sandbox/queue_wait_s"] == later["sandbox/timeout_cpu_share"] == 0


def test_a_sandbox_that_fails_ends_the_run():
    with Sandbox(limits=Limits(cpu_s=5.0)) as box:
        before = box.stats()
        over = threading.Event()

        def kill() -> None:
            while not over.wait(0.02):
                for pid in box.zygote_pids():
                    os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            outcomes = box.run([LOOP])
        finally:
            over.set()
            killer.join()
        assert [o.status for o in outcomes] == [Status.INFRA]
        after = box.stats()
    assert sandbox_row(before, after, 1.0, 1.0)["sandbox/INFRA"] == 1
    with pytest.raises(SandboxUnavailable, match="lost 1 of 1 jobs"):
        sandbox_row(before, after, 1.0, 0.05)


def test_a_sampler_of_another_policy_ends_the_run():
    gaps = {
        "gap": np.array([0.01, np.nan, 0.2, 0.0, np.nan, 0.1]),
        "tokens": np.array([9, 0, 9, 9, 0, 9]),
    }
    assert logprob_gap(gaps, most=0.5) == 0.2
    with pytest.raises(PolicyMismatch, match=r"0\.2 nats a token, more than .*max_gap = 0\.1"):
        logprob_gap(gaps, most=0.1)
    assert logprob_gap({"gap": np.full(6, np.nan), "tokens": np.zeros(6)}, most=0.0) == 0.0


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_gap_that_is_not_finite_ends_the_run(number: float):
    gaps = {"gap": np.array([0.01, number, np.nan]), "tokens": np.array([9, 9, 0])}
    with pytest.raises(PolicyMismatch, match="not finite"):
        logprob_gap(gaps, most=0.5)


def test_bad_steps_are_counted_in_a_row():
    health = Health(most=3)
    steps = [True, False, False, True, False, False, False]
    told = [health.take(step, well) for step, well in enumerate(steps)]
    assert told == [False] * 6 + [True]
    assert health.good == 3
    assert not any(Health(most=0).take(step, False) for step in range(9))
