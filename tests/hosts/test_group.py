"""What processes tell each other, through jax's own service; here they are threads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jax._src.lib import _jax

from azr_jax.errors import UserError
from azr_jax.hosts.group import Hosts, Refused
from azr_jax.selfplay.checks import Checks
from azr_jax.selfplay.drafts import Draft
from azr_jax.selfplay.seeds import verify_seeds
from azr_jax.selfplay.state import Answer, Pending, Proposal, Request
from azr_jax.selfplay.triplet import InductionTask, Triplet
from sandbox import Limits, Sandbox
from tests.until import PATIENCE_S

NAMES = ["process 0 (a)", "process 1 (b)", "process 2 (c)"]
Together = Callable[[Callable[[Hosts], Any]], list[Any]]


@pytest.fixture(scope="module")
def clients() -> Iterator[list[Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    patience = {"shutdown_timeout": PATIENCE_S}
    service = _jax.get_distributed_runtime_service(address, len(NAMES), **patience)
    made = [
        _jax.get_distributed_runtime_client(address, i, init_timeout=PATIENCE_S, **patience)
        for i in range(len(NAMES))
    ]
    with ThreadPoolExecutor(len(made)) as pool:
        list(pool.map(lambda client: client.connect(), made))
        yield made
        list(pool.map(lambda client: client.shutdown(), made))
    service.shutdown()


@pytest.fixture
def together(clients: list[Any]) -> Iterator[Together]:
    """Runs one function on all processes; an exception is its result there."""
    clients[0].key_value_delete("azr/")
    hosts = [Hosts(i, NAMES, client) for i, client in enumerate(clients)]

    def run(function: Callable[[Hosts], Any]) -> list[Any]:
        def caught(mine: Hosts) -> Any:
            try:
                return function(mine)
            except Exception as error:
                return error

        return list(pool.map(caught, hosts))

    with ThreadPoolExecutor(len(hosts)) as pool:
        yield run


def test_everybody_gets_everybodys_values_round_after_round(
    together: Together, clients: list[Any]
) -> None:
    def rounds(hosts: Hosts) -> list[Any]:
        return [hosts.gather({"at": hosts.index, "round": n}, f"round {n}") for n in range(5)]

    expected = [[{"at": i, "round": n} for i in range(3)] for n in range(5)]
    assert together(rounds) == [expected] * 3
    left = {key.split("/")[2] for key, _ in clients[0].key_value_dir_get_bytes("azr/gather/")}
    assert left == {"4"}  # what all have read does not stay


def test_one_that_was_asked_to_stop_stops_all_at_the_same_point(together: Together) -> None:
    def stop(hosts: Hosts) -> list[bool]:
        seen = [hosts.stopping]
        hosts.gather(None, "before")
        hosts.asked = lambda: hosts.index == 1
        seen.append(hosts.stopping)
        hosts.gather(None, "after")
        return [*seen, hosts.stopping]

    assert together(stop) == [[False, False, True]] * 3


def test_a_refusal_of_one_is_a_refusal_of_all_and_names_it(together: Together) -> None:
    def open_file(hosts: Hosts) -> None:
        with hosts.together("opening"):
            if hosts.index == 2:
                raise UserError("seeds.jsonl: no such file")

    for error in together(open_file):
        assert isinstance(error, Refused)
        assert str(error) == "process 2 (c): seeds.jsonl: no such file"

    def all_alike(hosts: Hosts) -> None:
        with hosts.together("opening"):
            raise UserError("no such file")

    assert {str(error) for error in together(all_alike)} == {"no such file"}


def test_only_the_first_makes_what_all_get(together: Together) -> None:
    made: list[int] = []

    def make(hosts: Hosts) -> Any:
        return hosts.from_first(lambda: made.append(hosts.index) or [1, None], "making")

    assert together(make) == [[1, None]] * 3
    assert made == [0]

    def refuse(hosts: Hosts) -> None:
        def read() -> None:
            raise UserError("damaged")

        hosts.from_first(read, "reading")

    assert {str(error) for error in together(refuse)} == {"process 0 (a): damaged"}


def test_other_facts_are_refused_with_both_values(together: Together) -> None:
    def compare(hosts: Hosts) -> None:
        facts = {"jax": "0.10.2", "RunConfig.seed": hosts.index // 2, "code": hosts.index // 2}
        hosts.require_same(facts, "comparing")

    assert {str(error) for error in together(compare)} == {
        "process 2 (c) has RunConfig.seed = 1, process 0 (a) has 0 (2 differ): all processes of a "
        "run must have the same"
    }
    assert together(lambda hosts: hosts.require_same({"jax": "0.10.2"}, "again")) == [None] * 3


def test_processes_that_have_parted_are_told_where(together: Together) -> None:
    errors = together(lambda hosts: hosts.gather(None, "solving" if hosts.index else "proposing"))
    assert "the processes have parted: process 1 (b) is solving" in str(errors[0])
    assert "process 0 (a) is proposing, process 1 (b) is solving" in str(errors[1])


def test_one_that_sends_nothing_is_named(together: Together) -> None:
    def gather(hosts: Hosts) -> Any:
        hosts._patience_s = 0.2
        return None if hosts.index == 1 else hosts.gather(None, "verifying")

    missed, away, waited = together(gather)
    assert "process 1 (b) has sent nothing for 0 s while verifying" in str(missed)
    assert away is None
    assert "process 0 (a) has sent nothing" in str(waited)


def test_each_completion_is_checked_once_and_known_everywhere(together: Together) -> None:
    tasks = [Triplet("def f(x): return x", "'\\ud800'", "1"), None]
    tasks.append(InductionTask("def f(x): return x", ("1",), ("1",), "same"))
    checked: list[tuple[int, int]] = []

    def verdict(request: Request, text: str) -> Any:
        if request.role == "solve":
            return Answer(request, text, request.index / 3, "OK", True)
        return Proposal(request, text, tasks[request.index % 3], "RAISED", "because", False)

    def check(hosts: Hosts) -> Any:
        def submit(request: Request, text: str) -> Pending[Any]:
            checked.append((hosts.index, request.index))
            return Pending(None, lambda _: verdict(request, text))

        checks = Checks(submit, hosts)
        for number in (5, 3, 0, 1, 2, 4, 6):  # as they finish
            purpose: Any = "propose" if number < 4 else "solve"
            checks.submit(number, Request(purpose, "deduction", number, "p"), f"text {number}")
        return checks.results()

    alike = together(check)
    assert alike[0] == alike[1] == alike[2]
    assert list(alike[0]) == list(range(7))
    assert all(found == verdict(found.request, found.text) for found in alike[0].values())
    assert sorted(checked) == [(0, 0), (0, 3), (0, 6), (1, 1), (1, 4), (2, 2), (2, 5)]


def test_each_seed_is_run_once_and_all_get_the_same(together: Together) -> None:
    drafts = [Draft(f"def f(a):\n    return a + {n} / {n % 3}", ("1.0",)) for n in range(7)]
    drafts.append(Draft("def f(a):\n    return [a]", ("1", "2"), "a list"))
    with Sandbox(limits=Limits(cpu_s=1.0), level=1) as box:
        before = box.stats()["jobs"]
        alike = together(lambda hosts: verify_seeds(drafts, box, peers=hosts))
        assert box.stats()["jobs"] - before == len(drafts)
        assert alike == [verify_seeds(drafts, box)] * 3
    assert [index for index, *_ in alike[0].rejected] == [0, 3, 6]
