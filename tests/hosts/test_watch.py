"""How processes end that lose each other, stall, fail alone, or never meet. None of them trains."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from azr_jax.errors import UserError
from azr_jax.hosts.join import Settings
from azr_jax.hosts.watch import Watch
from tests.until import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
import sys, time
from azr_jax.errors import UserError
from azr_jax.hosts import join
index = int(sys.argv[2])

def stands_still():
    while True:
        time.sleep(1)

def gets_on(hosts):
    while True:
        hosts.moved()
        time.sleep(0.05)

def run(hosts):
    hosts.gather(None, "meeting")
    print("met", flush=True)
"""
TAIL = """
settings = join.Settings(sys.argv[1], 2, index, heartbeat_s=float(sys.argv[3]))
try:
    with join.join(settings) as hosts:
        run(hosts)
except UserError as error:
    raise SystemExit(2) from None
"""


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(
    body: str, indices: Sequence[int] = (0, 1), heartbeat_s: float = 8
) -> list[subprocess.Popen[str]]:
    address = free_address()
    return [
        subprocess.Popen(
            [sys.executable, "-c", HEAD + body + TAIL, address, str(index), str(heartbeat_s)],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for index in indices
    ]


POD = """\
import os
from jax._src.clusters import cluster, cloud_tpu_cluster
from azr_jax.hosts.join import Settings, join
cluster.running_in_cloud_tpu_vm = cloud_tpu_cluster.running_in_cloud_tpu_vm = True
with join(Settings()) as hosts:
    print(hosts.count, hosts.gather(os.environ["TPU_WORKER_ID"], "meeting"))
"""
"""What jax does on the hosts of a slice, but for the question whether there are chips."""


def ends(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard error, and its last line."""
    _, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, err, err.strip().splitlines()[-1]


def met(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "met\n"


def test_a_stall_shows_the_stacks_of_all_hosts_and_ends_them() -> None:
    pair = start(
        "    hosts.stall_after(3)\n    (gets_on if index == 0 else lambda _: stands_still())(hosts)"
    )
    for index, process in enumerate(pair):
        code, err, last = ends(process)
        assert code == 1
        assert ("stands_still" if index else "gets_on") in err
        assert re.match(
            r"azr: process 1 \(.*\) is stalled: nothing has moved for 3 s while meeting; the stack",
            last,
        )


def test_a_process_that_stood_still_as_a_whole_is_not_stalled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped by Ctrl-Z, or on a machine that was asleep: its watch saw nothing of that time."""
    now, ended = [0.0], list[str]()
    monkeypatch.setattr("azr_jax.hosts.watch.time.monotonic", lambda: now[0])
    watch = Watch(0, ["this process"], None, heartbeat_s=30)
    monkeypatch.setattr(watch, "_end", lambda word, text: ended.append(text))
    watch.stall_s = 60
    watch._look()
    now[0] = 3600
    watch._look()
    assert not ended
    while not ended:
        now[0] += 2
        watch._look()
    assert 3650 < now[0] < 3670


def test_the_loss_of_the_process_where_all_meet_is_told_at_once() -> None:
    pair = start("    stands_still()", heartbeat_s=1e6)  # by a heartbeat it would not be noticed
    met(pair)
    pair[0].send_signal(signal.SIGKILL)
    code, _, last = ends(pair[1])
    assert code not in (0, 2)
    assert re.match(r"azr: lost process 0 \(.*\), where all processes meet; the same", last)
    assert ends(pair[0])[2].startswith("azr: process 0")


def test_what_one_refuses_alone_ends_the_others_too() -> None:
    pair = start("    if index: raise UserError('no such file here')\n    stands_still()")
    code, _, last = ends(pair[0])
    assert code == 2
    assert re.fullmatch(r"azr: process 1 \(.*\) failed: no such file here", last)
    assert pair[1].wait(PATIENCE_S) == 2


def test_a_process_whose_peers_do_not_come_says_so() -> None:
    (lonely,) = start("join._START_S = 2", [0])
    code, _, last = ends(lonely)
    assert code not in (0, 2)
    assert last.startswith("azr: process 0")
    assert "the others" in last


def test_the_hosts_of_a_pod_find_each_other() -> None:
    variables = {
        "JAX_PLATFORMS": "",
        "JAX_COORDINATOR_PORT": free_address().rpartition(":")[2],
        "TPU_WORKER_HOSTNAMES": "127.0.0.1,127.0.0.1",  # as GKE sets it
        # All that Google's metadata server would be asked for.
        "TPU_SKIP_MDS_QUERY": "1",
        "MEGASCALE_COORDINATOR_ADDRESS": "127.0.0.1",
        "MEGASCALE_NUM_SLICES": "1",
        "MEGASCALE_SLICE_ID": "0",
    }
    pods = [
        subprocess.Popen(
            [sys.executable, "-c", POD],
            cwd=ROOT,
            env=os.environ | variables | {"TPU_WORKER_ID": str(index)},
            text=True,
            stdout=subprocess.PIPE,
        )
        for index in range(2)
    ]
    for pod in pods:
        assert pod.communicate(timeout=PATIENCE_S)[0] == "2 ['0', '1']\n"
        assert pod.returncode == 0


@pytest.mark.parametrize(
    ("environment", "flags", "expected"),
    [
        ({"JAX_NUM_PROCESSES": "4"}, {}, "several processes need all of"),
        ({"JAX_PROCESS_ID": "x"}, {}, "JAX_PROCESS_ID is no number: 'x'"),
        ({}, {"coordinator": "here", "processes": 2, "process_id": 0}, "HOST:PORT, not 'here'"),
        ({}, {"coordinator": "h:1", "processes": 2, "process_id": 2}, "process 2 of 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    environment: dict[str, str], flags: dict[str, object], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        Settings.with_environment(environment, **flags)


def test_settings_come_from_flags_then_from_the_environment() -> None:
    environment = {
        "JAX_COORDINATOR_ADDRESS": "host:1234",
        "JAX_NUM_PROCESSES": "4",
        "JAX_PROCESS_ID": "3",
    }
    assert Settings.with_environment(environment) == Settings("host:1234", 4, 3)
    given = Settings.with_environment(environment, process_id=1, processes=None)
    assert given == Settings("host:1234", 4, 1)
    assert Settings.with_environment({}) == Settings()
