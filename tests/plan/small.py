"""A small model with the meshes and proportions of a large one, for compiling ahead in seconds."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

REQUIRED = "AZR_REQUIRE_LIBTPU"
"""Set where the tests that compile ahead must not be skipped: without libtpu they then fail."""

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None and REQUIRED not in os.environ,
    reason="libtpu is not installed: extra [plan]",
)

SMALL = """\
ModelConfig.vocab_size = 4096
ModelConfig.d_model = 256
ModelConfig.layers = 8
ModelConfig.heads = 8
ModelConfig.kv_heads = 4
ModelConfig.head_dim = 32
ModelConfig.d_ff = 512
ModelConfig.dtype = 'bfloat16'
ModelConfig.tied_embeddings = False
ModelConfig.remat = 'full'
MeshConfig.data = 1
MeshConfig.fsdp = -1
MeshConfig.tensor = 4
RunConfig.row_tokens = (896,)
RunConfig.micro_rows = 1
RunConfig.batch_rows = 4
LossConfig.logprob_chunk = 512
SamplerConfig.slots = 8
SamplerConfig.prefill_rows = 2
SamplerConfig.slice_tokens = 16
SamplerConfig.max_prompt_tokens = 896
SamplerConfig.max_new_tokens = 128
INIT_CHECKPOINT = %gin.REQUIRED
RunConfig.init_checkpoint = %INIT_CHECKPOINT
"""


def flags(folder: Path) -> list[str]:
    """What tells `azr plan` of the small model alone."""
    path = folder / "hardware" / "small.gin"  # so placed, no generation's file is read beside it
    path.parent.mkdir(exist_ok=True)
    path.write_text(SMALL)
    return ["--gin_file", str(path)]
