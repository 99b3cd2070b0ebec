"""Before jax is imported anywhere: the tests run on eight fake CPU devices."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()

# A loaded machine is slow, not wrong.
settings.register_profile("azr", deadline=None)
settings.load_profile("azr")


@pytest.fixture(autouse=True)
def _no_gin_left_over() -> Iterator[None]:
    """A test that parsed gin leaves neither bindings nor the lock of `gin.finalize()` behind."""
    yield
    if "gin" in sys.modules:
        sys.modules["gin"].clear_config()
