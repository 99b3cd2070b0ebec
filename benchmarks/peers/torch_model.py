"""The model of a Hugging Face folder in torch: its weights in float32, or random ones on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def load(folder: str, random_dtype: torch.dtype) -> Any:
    """A folder without weights gives random ones of `random_dtype`, made where they stay."""
    if any(Path(folder).glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(DEVICE)
    config = AutoConfig.from_pretrained(folder)
    with torch.device(DEVICE):
        return AutoModelForCausalLM.from_config(config, dtype=random_dtype)


def synchronize() -> None:
    """Waits for what the device still does."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
