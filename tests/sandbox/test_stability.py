"""Nothing grows: descriptors and memory of the parent and of the zygotes over many jobs."""

import os
from itertools import count as count_from
from pathlib import Path

import pytest

from sandbox import Job, Limits, Sandbox
from sandbox.bench import mixed

PAGE_MIB = os.sysconf("SC_PAGESIZE") / 2**20


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MIB


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def jobs_from(start: int, count: int) -> list[Job]:
    """Programs that end, one in a hundred that does not, and some that break their child."""
    jobs = [j for j in mixed(count, start=start) if "bytearray" not in j.code]
    crash = "import os\ndef f(n):\n    os._exit(n + {})"
    return [Job(crash.format(k), j.inputs) if k % 50 == 7 else j for k, j in enumerate(jobs)]


@pytest.mark.parametrize("count", [400, pytest.param(50_000, marks=pytest.mark.soak)])
def test_nothing_grows(count):
    limits = Limits(cpu_s=0.02, memory_mb=64)
    with Sandbox(limits=limits, cache_size=64) as box:

        def state() -> tuple[list[int], list[int], float, float]:
            pids = box.zygote_pids()
            return (
                pids,
                [descriptors(pid) for pid in (*pids, os.getpid())],
                sum(map(resident_mib, pids)),
                resident_mib(os.getpid()),
            )

        sleep = "import time\ndef f(n):\n    time.sleep(0.5)\n    return n + {}"
        at_once, numbers = 2 * box.workers, count_from(0)
        for kinds, kind in enumerate((True, False), 1):
            # Until there are as many zygotes of each kind as there will ever be.
            while len(box.zygote_pids()) < kinds * at_once:
                jobs = [Job(sleep.format(next(numbers)), ("1",)) for _ in range(at_once)]
                for future in [box.submit_to(job, kind) for job in jobs]:
                    assert future.result().status == "OK"
        batch = 200
        for start in range(0, 2 * batch, batch):
            box.run(jobs_from(10**7 + start, batch))
        pids, fds, zygotes_mib, own_mib = state()
        for start in range(0, count, batch):
            box.run(jobs_from(start, batch))
        after = state()
        assert after[0] == pids  # none was lost, none was added
        assert after[1] == fds
        assert after[2] <= zygotes_mib + 1
        assert after[3] <= own_mib + 4
        assert box.stats()["INFRA"] == box.stats()["zygotes_lost"] == 0
