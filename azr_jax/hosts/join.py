"""How the processes of a run find each other, and what they must have in common."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax._src import distributed  # its client has no public name
from jax._src.clusters import cloud_tpu_cluster

import azr_jax
import sandbox
from azr_jax.errors import UserError
from azr_jax.hosts.group import Hosts
from azr_jax.hosts.watch import RESUME, LastWords, Watch

_START_S = 300
_LEAVE_S = 60


@dataclass(frozen=True)
class Settings:
    """Where the processes of a run meet. Without an address: a TPU pod knows, else there is one.

    coordinator: HOST:PORT of process 0, whose port is free. processes, process_id: how many, and
    which of them this is. heartbeat_s: a process that is silent for longer is lost.
    """

    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    heartbeat_s: float = 30.0

    @classmethod
    def with_environment(cls, environment: Mapping[str, str], **flags: Any) -> Settings:
        """Flags, and for those that are None the variables that jax's users know.

        Raises:
          UserError: some of what is needed is missing, or cannot be.
        """
        given: dict[str, Any] = {k: v for k, v in flags.items() if v is not None}
        if "JAX_COORDINATOR_ADDRESS" in environment:
            given.setdefault("coordinator", environment["JAX_COORDINATOR_ADDRESS"])
        numbers = {"processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
        for name, variable in numbers.items():
            text = environment.get(variable)
            if text is not None and name not in given:
                if not text.isascii() or not text.isdigit():
                    raise UserError(f"{variable} is no number: {text!r}")
                given[name] = int(text)
        return cls(**given)

    def __post_init__(self) -> None:
        three = (self.coordinator, self.processes, self.process_id)
        if any(x is None for x in three) and any(x is not None for x in three):
            raise UserError(
                "several processes need all of --coordinator HOST:PORT, --processes and "
                "--process_id (or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID)"
            )
        if self.coordinator is None or self.processes is None or self.process_id is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"the coordinator is HOST:PORT, not {self.coordinator!r}")
        if not 0 <= self.process_id < self.processes:
            raise UserError(
                f"process {self.process_id} of {self.processes}: they count from 0 to "
                f"{self.processes - 1}"
            )


def join(settings: Settings) -> Hosts:
    """Waits for the other processes of the run, if it has any.

    To be called before anything else asks jax for its devices.

    Raises:
      SystemExit: they cannot be reached.
    """
    if settings.coordinator is None and not _in_a_pod():
        return _alone(settings)
    last_words = _initialize(settings)
    if distributed.global_state.num_processes == 1:
        last_words.bye()
        return _alone(settings)
    return _meet(settings, last_words)


def _in_a_pod() -> bool:
    """On a Cloud TPU, and where it says who the hosts of its slice are; there may be one alone."""
    if "tpu" not in (os.environ.get("JAX_PLATFORMS") or "tpu"):
        return False
    kinds = cloud_tpu_cluster.GceTpuCluster, cloud_tpu_cluster.GkeTpuCluster
    return any(kind.is_env_present() for kind in kinds)


def _alone(settings: Settings) -> Hosts:
    hosts = Hosts()
    hosts.watch = Watch(0, ["this process"], None, settings.heartbeat_s)
    hosts.watch.start()
    return hosts


def _initialize(settings: Settings) -> LastWords:
    """jax's own part: the service on process 0, a connection to it from each."""
    last_words = LastWords()
    me = "this process" if settings.process_id is None else f"process {settings.process_id}"
    last_words.say(f"{me} has not met the others within {_START_S} s, or was killed meanwhile")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM for itself. A signal goes through `signals`, and `Hosts.gather`.
    jax.config.update("jax_enable_preemption_service", False)
    given: dict[str, Any] = {}
    if settings.coordinator is not None:
        given = {
            "coordinator_address": settings.coordinator,
            "num_processes": settings.processes,
            "process_id": settings.process_id,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(
            **given,
            initialization_timeout=_START_S,
            # More patient than our own, which knows what to say; a beat is sent twice within it.
            heartbeat_timeout_seconds=math.ceil(4 * settings.heartbeat_s),
            shutdown_timeout_seconds=_LEAVE_S,
        )
    except Exception as error:
        last_words.bye()
        where = settings.coordinator or "the address of this pod's first host"
        raise SystemExit(f"azr: {me} cannot meet the others at {where}: {error}") from error
    return last_words


def _meet(settings: Settings, last_words: LastWords) -> Hosts:
    state = distributed.global_state
    index, count = state.process_id, state.num_processes
    hosts = Hosts(index, [f"process {i}" for i in range(count)], state.client)
    found = hosts.gather(socket.gethostname(), "joining")
    hosts.names = [f"process {i} ({host})" for i, host in enumerate(found)]
    last_words.say(
        f"{hosts.names[index]} was killed, or ended without a word; {RESUME}",
        "" if index == 0 else f"lost {hosts.names[0]}, where all processes meet; {RESUME}",
        state.coordinator_address or "",
    )
    hosts.watch = Watch(index, hosts.names, state.client, settings.heartbeat_s)
    hosts.watch.last_words = last_words
    hosts.watch.start()
    return hosts


def versions() -> dict[str, str]:
    """What must be the same on all hosts for their programs to be: packages, and our own code."""
    found = {"code": _digest_of_code()}
    for name in ("jax", "jaxlib", "libtpu", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _digest_of_code() -> str:
    """Of the sources of both packages, wherever they are installed, committed or not."""
    digest = hashlib.sha256()
    for package in (azr_jax, sandbox):
        root = Path(package.__file__ or "").parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
