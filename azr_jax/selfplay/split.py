"""Which programs are held out: by hash of the normalised program, for ever.

A corpus and a self-play that ask here never see the programs that an evaluation is made of.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from azr_jax.selfplay.triplet import program_key

Split = Literal["train", "dev", "test"]


@lru_cache(maxsize=200_000)
def split_of(program: str) -> Split:
    """Two programs in sixteen are for `test` (reporting), one for `dev` (choosing anything)."""
    bucket = int(program_key(program)[:8], 16) % 16
    return "test" if bucket < 2 else "dev" if bucket == 2 else "train"


def is_held_out(program: str) -> bool:
    return split_of(program) != "train"
