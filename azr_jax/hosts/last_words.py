"""Speaks for a process that can no more: one that was killed, or that jax's runtime aborted.

Each line on standard input replaces what is to be said: TEXT, IF_GONE and COORDINATOR (HOST:PORT),
with tabs between them. At the end of the input it is said on standard error; IF_GONE in case
nothing listens at COORDINATOR any longer; without a TEXT it was an orderly end. Standard library
only: this file is run, not imported.
"""

from __future__ import annotations

import socket
import sys

PATIENCE_S = 5.0


def main() -> None:
    line = "\t\t"
    for line in sys.stdin:  # noqa: B007
        pass
    text, if_gone, coordinator = line.rstrip("\n").split("\t")
    if text:
        gone = if_gone and not _listens(coordinator)
        print(f"azr: {if_gone if gone else text}", file=sys.stderr, flush=True)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
