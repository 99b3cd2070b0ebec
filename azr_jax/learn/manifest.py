"""The manifest of a checkpoint: what tells a sound one from one with a flipped bit.

The array files alone do not: Orbax reads a changed byte without a word. A manifest holds a digest
of every JSON item, and shape, dtype and digest of every array.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp

FORMAT = 1
"""Version of what a step directory holds; any other is refused."""

JSON_ITEMS = ("play", "meta", "manifest")

Json = dict[str, Any]


def make_manifest(items: Json) -> Json:
    """Of the items of a checkpoint; a last digest is of the manifest itself."""
    manifest = {
        name: text_digest(item) if name in JSON_ITEMS else _array_manifest(item)
        for name, item in items.items()
    }
    return manifest | {"manifest": text_digest(manifest)}


def is_whole(manifest: Any) -> bool:
    """Whether a manifest is as it was written."""
    if not isinstance(manifest, dict):
        return False
    rest = {name: value for name, value in manifest.items() if name != "manifest"}
    return manifest.get("manifest") == text_digest(rest)


def is_sound(name: str, item: Any, manifest: Json) -> bool:
    """Whether an item is what its manifest says.

    Leaves that were converted to another dtype as they were read cannot be checked, and pass.
    """
    if name in JSON_ITEMS:
        return bool(manifest[name] == text_digest(item))
    saved = manifest[name]
    return all(
        leaf["digest"] == saved[key]["digest"]
        for key, leaf in _array_manifest(item).items()
        if leaf["dtype"] == saved[key]["dtype"]
    )


def misfit(saved: Json, target: Any) -> str | None:
    """How the arrays of a manifest differ in name or shape from a tree, the first one; or None."""
    old = {key: tuple(leaf["shape"]) for key, leaf in saved.items()}
    new = {key: tuple(leaf.shape) for key, leaf in _named_leaves(target).items()}
    for key in sorted(old | new):
        if old.get(key) != new.get(key):
            return f"{key} is {old.get(key, 'absent')} there, {new.get(key, 'absent')} here"
    return None


def format_refusal(meta: Any) -> str | None:
    """Why this azr_jax does not read a checkpoint, by its meta; None where it does."""
    found = meta.get("format") if isinstance(meta, dict) else None
    if found == FORMAT:
        return None
    if not isinstance(found, int):
        return "names no format: this is no checkpoint of azr_jax"
    writer = f"the azr_jax that wrote it (git revision {meta.get('git_revision') or 'not known'})"
    if found > FORMAT:
        return f"has the newer format {found}, this azr_jax reads {FORMAT}: go on with {writer}"
    return (
        f"has the older format {found}, this azr_jax reads {FORMAT}: go on with {writer}, or "
        "export the model there and start a new run from the exported folder"
    )


def _array_manifest(tree: Any) -> Json:
    # One array at a time: what a digest takes beside its array stays small.
    return {
        key: {"shape": list(x.shape), "dtype": str(x.dtype), "digest": int(_array_digest(x))}
        for key, x in _named_leaves(tree).items()
    }


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Path -> leaf, paths as in `layers/q`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def text_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@jax.jit
def _array_digest(x: jax.Array) -> jax.Array:
    """Sum of an array's bits as words, modulo 2^32: any single flipped bit changes it, and how the
    array is spread over a mesh does not."""
    words = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
    bits = jax.lax.bitcast_convert_type(x, words[x.dtype.itemsize])
    return bits.astype(jnp.uint32).sum()
