"""`azr train` that writes down what it samples: python recorded.py FILE TASKS FLAG…

A line of FILE is a completion as it left the sampler: [stream of its prompt, sample, tokens]. TASKS
is the benchmark that is measured on, if one is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azr_jax.evals.harness import BENCHMARKS
from azr_jax.model.sampler import Sampler


def record(path: Path) -> Any:
    """The sampler's `stream`, which notes in `path` what it yields."""
    stream = Sampler.stream

    def recorded(self: Any, params: Any, prompts: Any, **given: Any) -> Iterator[Any]:
        with path.open("a") as file:
            for done in stream(self, params, prompts, **given):
                row = [prompts[done.prompt].stream, done.sample, done.tokens]
                file.write(json.dumps(row) + "\n")
                file.flush()
                yield done

    return recorded


def main() -> int:
    from azr_jax import cli

    file, tasks, *flags = sys.argv[1:]
    Sampler.stream = record(Path(file))  # type: ignore[method-assign]
    BENCHMARKS.update(dict.fromkeys(BENCHMARKS, Path(tasks)))
    return cli.main(["train", *flags])


if __name__ == "__main__":
    raise SystemExit(main())
