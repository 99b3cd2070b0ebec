"""gin, at the edge of the program: read files and bindings, build the dataclasses they describe.

Library code takes plain arguments; this module and the decorators on the configurables are all
that knows gin. A mistake in a file ends as one line with a suggestion, before anything is built.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util  # gin's own file lookup needs it loaded
import logging
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gin

import azr_jax
from azr_jax import storage
from azr_jax.errors import UserError

CONFIGURABLES = {
    "RunConfig": "azr_jax.run_config",
    "PlayConfig": "azr_jax.selfplay.state",
    "RewardConfig": "azr_jax.selfplay.rewards",
    "Limits": "sandbox",
    "ModelConfig": "azr_jax.model.config",
    "RopeScaling": "azr_jax.model.config",
    "MeshConfig": "azr_jax.model.sharding",
    "SamplerConfig": "azr_jax.model.sampler",
    "OptimizerConfig": "azr_jax.learn.optimizer",
    "LossConfig": "azr_jax.learn.update",
    "EvalConfig": "azr_jax.evals.heldout",
    "PretrainConfig": "azr_jax.tiny.pretrain",
}
"""Every name that a gin file may bind -> the module of its dataclass."""

MACROS = ("INIT_CHECKPOINT", "SEED_FILES", "RUN_DIR", "TOTAL_STEPS")


def find_file(name: str) -> Path | None:
    """A gin file by name: as a path, then in `gin/` of the working directory, then as installed."""
    if storage.is_remote(name):
        copy = storage.local_copy(storage.locate(name).parent) / Path(name).name
        return copy if copy.is_file() else None
    package = Path(azr_jax.__file__).parent
    # A checkout holds gin/ beside the package, a wheel inside it.
    folders = (Path(), Path("gin"), package / "_gin", package.parent / "gin")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    return None


def parse(files: Sequence[str], bindings: Sequence[str] = ()) -> None:
    """Reads gin files, then bindings over them, and locks the result.

    Raises:
      UserError: a mistake in a file or binding, or a value of the wrong type; one line that names
        the place, and what may have been meant.
    """
    gin.clear_config()
    register()
    # Instead of gin's own readers: one looks for packages, and trips over any folder `runs/`.
    gin.config._FILE_READERS[:] = [(_open_gin, lambda name: find_file(name) is not None)]
    logging.disable(logging.ERROR)  # gin logs one for every place that an include is not found in
    try:
        for name in files:
            path = find_file(name)
            if path is None:
                raise UserError(f"gin: no file {name!r}, neither here nor in gin/ nor installed")
            _translated(partial(gin.parse_config_file, str(path)), source=name)
        for binding in bindings:
            _translated(partial(gin.parse_config, binding), source=repr(binding))
        _check_macros()
        _translated(gin.finalize)
        for name in CONFIGURABLES:
            _translated(partial(_check_types, name), source=name)
    finally:
        logging.disable(logging.NOTSET)


def build(name: str) -> Any:
    """The dataclass of that name as the parsed gin describes it.

    Raises:
      UserError: a required value is missing, or a value is refused.
    """

    return _translated(gin.get_configurable(name), source=name)


def is_bound(name: str) -> bool:
    """Whether the parsed gin says anything of that dataclass."""
    return bool(gin.get_bindings(name))


def operative_text() -> str:
    """All that was built, with defaults: what a run keeps as its `config.gin`."""
    return str(gin.operative_config_str())


def default_text(parameter: str) -> str | None:
    """The default of `CONFIGURABLE.field` as gin writes it; None where there is none."""
    name, _, field_name = parameter.rpartition(".")
    fields = (
        {f.name: f for f in dataclasses.fields(_class_of(name))} if name in CONFIGURABLES else {}
    )
    found = fields.get(field_name)
    if found is None or found.default is dataclasses.MISSING:
        return None
    return repr(found.default)


def register() -> None:
    """Loads every room with a configurable, and tells gin of those that know nothing of it."""
    for name in CONFIGURABLES:
        cls = _class_of(name)
        try:
            gin.get_configurable(name)
        except ValueError:
            gin.external_configurable(cls, name)


def _class_of(name: str) -> Any:
    return getattr(importlib.import_module(CONFIGURABLES[name]), name)


def _open_gin(name: str) -> Any:
    path = find_file(name)
    assert path is not None
    return path.open(encoding="utf-8")


def _check_macros() -> None:
    """A macro that nothing uses is a misspelt one: gin itself would not mind."""
    text = gin.config_str()
    defined = re.findall(r"^(\w+) =", text, flags=re.MULTILINE)
    used = set(re.findall(r"%(\w+)", text))
    for macro in defined:
        if macro not in used | set(MACROS):
            raise UserError(
                f"gin: nothing uses the macro {macro}{_suggestion(macro, used | set(MACROS))}"
            )


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _check_types(name: str) -> None:
    """Whether what is bound for a configurable is of its annotated types."""
    hints = typing.get_type_hints(_class_of(name))
    for field, value in gin.get_bindings(name).items():
        if not _fits(value, hints[field]):
            expected = _type_name(hints[field])
            raise UserError(f"gin: {name}.{field} = {value!r} is not of type {expected}")


def _translated(call: Callable[[], Any], source: str = "") -> Any:
    """The result of `call`; what gin and the dataclasses raise becomes a UserError."""
    try:
        return call()
    except UserError as error:  # gin appends lines of its own
        raise UserError(str(error).partition("\n")[0]) from error
    except (ValueError, TypeError, SyntaxError, OSError, ImportError, AttributeError) as error:
        raise UserError(f"gin: {_plain_message(str(error), source)}") from error


def _plain_message(text: str, source: str) -> str:
    """gin's message of several lines as one, with a suggestion where a name is unknown."""
    place = re.search(r'In file "([^"]+)", line (\d+)', text)
    where = f"{place[1]}:{place[2]}: " if place else f"{source}: " if source else ""
    if found := re.search(r"No configurable matching (?:reference )?'@?([\w./]+)", text):
        name = found[1].rpartition("/")[2]
        return f"{where}nothing is called {name}{_suggestion(name, CONFIGURABLES)}"
    if found := re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", text):
        name = found[1].rpartition(".")[2]
        fields = [field.name for field in dataclasses.fields(_class_of(name))]
        return f"{where}{name} has no {found[2]}{_suggestion(found[2], fields)}"
    if found := re.search(r"(\w+)/macro.value set to `%gin.REQUIRED`", text):
        return f"{found[1]} must be set, as in --gin_bindings \"{found[1]} = '...'\""
    if found := re.search(r"(\S+) set to `%gin.REQUIRED`", text):
        return f"{found[1]} must be set"
    if found := re.search(r"No bindings specified for '(\w+)/gin.macro'", text):
        return f"nothing sets the macro {found[1]}{_suggestion(found[1], MACROS)}"
    if found := re.search(r"(\w+)\.__init__\(\) missing \d+ required .*?: (.*)", text):
        return f"{found[1]} lacks {found[2]}; name a file of gin/models, or a run file"
    if found := re.search(r"Unable to open file: (\S+)\. ", text):
        return f"{where}no file {found[1]!r}, neither here nor in gin/ nor installed"
    if found := re.search(r"Failed to parse token '(.*)'", text):
        return f"{where}{found[1]} is no value; text needs quotes"
    return where + text.partition("\n")[0]


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; types that gin cannot write are not looked into."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is tuple:
        items = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return (
            isinstance(value, tuple)
            and len(value) == len(items)
            and all(_fits(v, item) for v, item in zip(value, items, strict=True))
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
