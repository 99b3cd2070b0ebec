"""Before jax is imported anywhere: the tests run on eight fake CPU devices."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()

# A loaded machine is slow, not wrong.
settings.register_profile("azr", deadline=None)
settings.load_profile("azr")


# What runs behind a shell inherits that Ctrl-C is ignored, and hands it on to what tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    *("tests/learn/test_update.py", "tests/test_resume.py", "tests/test_train.py"),
    *("tests/hosts/test_train.py", "tests/test_run.py", "tests/model/test_sampler.py"),
    *("tests/test_health.py", "tests/learn/test_checkpoint.py", "tests/test_signals.py"),
    *("tests/model/test_loss.py", "tests/plan/test_sharding.py", "tests/tpu_scripts"),
    *("tests/hostile", "tests/sandbox", "tests/model"),
)
"""Files that take long begin first, so that both workers are busy to the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays together; its place among the files is that of `LONGEST`."""

    def place(item: pytest.Item) -> int:
        found = (n for n, name in enumerate(LONGEST) if item.nodeid.startswith(name))
        return next(found, len(LONGEST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _no_gin_left_over() -> Iterator[None]:
    """A test that parsed gin leaves neither bindings nor the lock of `gin.finalize()` behind."""
    yield
    if "gin" in sys.modules:
        sys.modules["gin"].clear_config()


# --- buckets -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def emulator() -> Iterator[Any]:
    """A Google Cloud Storage for this process, to which all that asks for gs:// is sent."""
    if sys.platform != "linux":
        pytest.skip("the emulator's package is for Linux")
    from tests.emulator import Emulator

    server = Emulator()
    os.environ.update(server.environment)  # for good: clients are kept, and so is their address
    yield server
    server.close()


@pytest.fixture
def bucket(emulator: Any) -> str:
    """The name of a bucket with nothing in it, as gs://…"""
    name = f"azr-{len(emulator.buckets())}"
    return str(emulator.make_bucket(name))


# --- runs of seconds ---------------------------------------------------------------------------

SMALL = """\
include 'models/tiny.gin'
ModelConfig.unroll = 1

RUN_DIR = %gin.REQUIRED
TOTAL_STEPS = 2
RunConfig.run_dir = %RUN_DIR
RunConfig.total_steps = %TOTAL_STEPS
RunConfig.row_tokens = (256,)
RunConfig.micro_rows = 1
RunConfig.batch_rows = 16
RunConfig.sandbox_level = 1
RunConfig.save_every = 2
RunConfig.samples_every = 1

SamplerConfig.slots = 8
SamplerConfig.max_prompt_tokens = 128
SamplerConfig.max_new_tokens = 64
SamplerConfig.prompt_sizes = 1
SamplerConfig.cache_sizes = 1
SamplerConfig.slot_sizes = 1

PlayConfig.prompt_style = 'compact'
PlayConfig.batch_size = 4
PlayConfig.references = 2
PlayConfig.samples_per_task = 2
PlayConfig.induction_inputs = 4
PlayConfig.seed_target = 4
PlayConfig.max_prompt_tokens = 128

# An epsilon above the noise: Adam's first step divides a gradient by its own size, and would turn
# rounding of a vanishing gradient into a full step of either sign.
OptimizerConfig.learning_rate = 1e-3
OptimizerConfig.eps = 1e-4
"""
"""A run of the embedded model, as small as a run can be."""

RANDOM = {"d_model": 32, "layers": 2, "heads": 2, "kv_heads": 2, "head_dim": 16, "d_ff": 64}

OpenRun = Callable[..., contextlib.AbstractContextManager[Any]]


@pytest.fixture(scope="session")
def small_gin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gin") / "small.gin"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs keep compiled programs: most of them differ in nothing that is compiled.

    One place for all workers of pytest-xdist.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(scope="module")
def open_small(small_gin: Path, compiled: Path) -> Iterator[OpenRun]:
    """`open_small(directory, *bindings, devices=1)`: a small run, opened through gin."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    from azr_jax import build, config

    changed = {
        "jax_compilation_cache_dir": str(compiled),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    old = {name: getattr(jax.config, name) for name in changed}
    whole_mesh = build.make_mesh

    @contextlib.contextmanager
    def open_small(directory: Path, *bindings: str, devices: int = 1) -> Iterator[Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                build, "make_mesh", lambda given: whole_mesh(given, jax.devices()[:devices])
            )
            config.parse([str(small_gin)], [f"RUN_DIR = {str(directory)!r}", *bindings])
            with build.open_run() as run:
                yield run

    for name, value in changed.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield open_small
    for name, value in old.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """Bindings that start from a tiny model that has learnt nothing: it writes pure garbage.

    It is as sure of its next token as a trained one: of draws among hundreds of nearly equal ids,
    one in some ten thousand lies so near to a bound that rounding decides. A bonus on entropy lets
    garbage, too, move the parameters.
    """
    import jax

    from azr_jax.learn.optimizer import OptimizerConfig, make_optimizer
    from azr_jax.learn.state import init_state
    from azr_jax.model import hf
    from azr_jax.model.folder import tokenizer_files
    from azr_jax.model.sharding import MeshConfig, make_mesh
    from azr_jax.model.transformer import Transformer
    from azr_jax.policy import EMBEDDED

    folder = tmp_path_factory.mktemp("random")
    shape = dataclasses.replace(hf.read_config(EMBEDDED), **RANDOM)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    state = init_state(Transformer(shape), make_optimizer(OptimizerConfig(), 1), mesh, seed=0)
    hf.write_config(folder, shape, eos_id=1, pad_id=0)
    sure = {**state.params, "final_norm": 15 * state.params["final_norm"]}
    hf.write_params(folder, sure, shape)
    for name, data in tokenizer_files(EMBEDDED).items():
        (folder / name).write_bytes(data)
    return [
        f"RunConfig.init_checkpoint = {str(folder)!r}",
        "LossConfig.entropy = 0.01",
        "SamplerConfig.max_new_tokens = 24",
        *(f"ModelConfig.{name} = {value}" for name, value in RANDOM.items()),
    ]
