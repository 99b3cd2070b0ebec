"""The model card of an exported model: how it was made, from what, and under which licence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_CARD = """\
---
{front}
---

# {name}

{story}

| | |
| --- | --- |
| base model | {base} |
| licence of the base | {licence} |
| parameters | {parameters} |
| dtype | {dtype} |
| steps of self-play | {step} |
| sandbox level | {sandbox_level} |
| azr_jax revision | {revision} |

Load it with no custom code:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({quoted}, dtype="auto")
tokenizer = AutoTokenizer.from_pretrained({quoted})
```
"""
_TRAINED = """\
Trained with Absolute Zero self-play by azr_jax from {base}: one model proposes coding tasks and
solves them, and learns from both by reinforcement; no task was given to it but those that it
proposed and the seeds that the configuration names."""
_UNTRAINED = "The weights of {base}, imported and exported by azr_jax, not trained by it."
_CONFIG = """
## Configuration of the run

```gin
{gin}
```
"""
_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def model_card(
    name: str,
    *,
    base: str,
    licence: str | None,
    parameters: int,
    dtype: str,
    meta: Mapping[str, Any],
) -> str:
    """Markdown with the front matter that the hub reads.

    `meta` is the checkpoint's; `licence` that of the base, None where it is not known.
    """
    step = int(meta.get("step") or 0)
    gin = str(meta.get("gin_config") or "").strip()
    front = [
        f"model_name: {_yaml(name)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
    ]
    if licence is not None:
        front.insert(0, f"license: {licence}")
    if "/" in base:
        front.append(f"base_model: {_yaml(base)}")
    if step:
        front.append("tags: [absolute-zero, reinforcement-learning, azr_jax]")
    card = _CARD.format(
        front="\n".join(front),
        name=" ".join(name.split()),
        quoted=json.dumps(name, ensure_ascii=False),
        story=(_TRAINED if step else _UNTRAINED).format(base=base),
        base=base,
        licence=licence or "not known: look it up before you pass the weights on",
        parameters=count(parameters),
        dtype=dtype,
        step=step,
        sandbox_level=meta.get("sandbox_level") or "none",
        revision=meta.get("git_revision") or "not known",
    )
    return card + (_CONFIG.format(gin=gin) if gin else "")


def _yaml(text: str) -> str:
    """A string; what YAML might take for anything else is quoted."""
    if re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and text.lower() not in _YAML_WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def count(parameters: int) -> str:
    """A number of parameters, in words."""
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if parameters >= size:
            return f"{parameters / size:.3g} {word}"
    return str(parameters)
