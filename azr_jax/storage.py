"""Where runs and checkpoints lie: in a local directory, or in a bucket, as gs://BUCKET/FOLDER.

A local file is written beside its name, then renamed. A bucket has neither rename nor append: an
object is there whole once its upload ends, so there a file is written in one go. Small files only:
arrays are Orbax's and tensorstore's.

TensorFlow is never used. Unlike `exists` and `is_dir` of etils and fsspec, nothing here takes a
bucket that cannot be reached for an empty one: a run would start anew over the old one.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol

from azr_jax.errors import UserError

# Read once, at the first use of a path, whoever uses it: JAX's compilation cache, too.
os.environ.setdefault("EPATH_USE_TF", "false")
# Or gcsfs asks for each bucket's kind, by another API that needs rights of its own.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

_GCS = "gs://"
_PACKAGES = ("gcsfs", "google.cloud.storage")
_PATIENCE_S = 30.0
"""With a bucket that does not answer when a command starts; about what gcsfs has later."""

_LONGEST_PATH = 3800
"""Of 4096 bytes that Linux takes: the rest is for Orbax's names below a run directory."""

PathLike = str | os.PathLike[str]


class StorageError(RuntimeError):
    """A bucket cannot be read or written. The message says what to do."""


class NewFile(Protocol):
    """A file that is being written, line by line."""

    def write(self, text: str) -> None: ...

    def seal(self) -> None:
        """Nothing more is written; what was written outlives the machine."""


def is_remote(path: PathLike) -> bool:
    return "://" in os.fspath(path)


def locate(name: PathLike) -> Path:
    """The path of a directory that a user named; one in a bucket is etils', with the same methods.

    A bucket is asked for once, so that a command is refused before any work.

    Raises:
      UserError: a name that no place can have, a place that may not be looked at, no such kind of
        place, packages that it needs are missing, no such bucket, no credentials, or no right to
        the bucket.
      StorageError: it does not answer.
    """
    if not is_remote(name):
        return _possible(Path(name)) if os.fspath(name) else _refuse(name, "it is empty")
    text = os.fspath(name)
    bucket = text.removeprefix(_GCS).partition("/")[0]
    if not text.startswith(_GCS) or not bucket:
        raise UserError(f"{text}: neither a local directory nor gs://BUCKET/FOLDER")
    require_packages(text)
    _require_bucket(bucket)
    from etils import epath

    path: Path = epath.Path(text)
    return path


def absolute(path: PathLike) -> Path:
    """Not for a bucket's paths: `resolve` and `os.path.abspath` take them for relative ones.

    Raises:
      UserError, StorageError: as `locate`.
    """
    place = locate(path)
    if is_remote(path):
        return place
    # Behind a link, `..` is not what stands before it, as Orbax and tensorstore have it.
    return place.resolve() if ".." in place.parts else place.absolute()


def array_place(path: PathLike, *, saves: bool = True) -> Path:
    """The absolute path of a directory that Orbax and tensorstore `saves` arrays in, or reads only.

    A save looks for what it has written by a pattern, in which the path stands as it is: with
    `[1]` in it nothing is found, with `*` perhaps what belongs to another run. In any path,
    tensorstore takes a backslash for a slash, and Orbax `gs:/` for the start of an address.

    Raises:
      UserError: such a path, or as `locate`.
      StorageError: as `locate`.
    """
    place = absolute(path)
    rest = os.fspath(place).removeprefix(_GCS)
    if is_remote(path) and (odd := re.search(r"[#\x00-\x1f\x7f]|(?<=/)\.{0,2}/", rest + "/")):
        _refuse(path, f"a bucket's tools do not take {odd[0]!r} as it is")
    found = re.search(r"\\|gs:/" + (r"|[*?[]" if saves or is_remote(path) else ""), rest + "/")
    if len(os.fsencode(place)) > _LONGEST_PATH:
        _refuse(path, f"with what comes below it, it is longer than {_LONGEST_PATH} bytes")
    if found:
        _refuse(path, f"the library that stores arrays does not take {found[0]} in {rest} as it is")
    return place


def _possible(path: Path) -> Path:
    """A local path that may be there, or come to be there."""
    try:
        os.fspath(path).encode()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except UnicodeEncodeError:
        _refuse(path, "it is not UTF-8")
    except ValueError as error:  # a null character
        _refuse(path, str(error))
    except OSError as error:
        _refuse(path, error.strerror)
    return path


def _refuse(name: PathLike, why: str | None) -> NoReturn:
    raise UserError(f"{os.fspath(name)!r} cannot be used, {why}: choose another name")


def require_packages(name: str) -> None:
    """
    Raises:
      UserError: what reads and writes `name`, in a bucket, is not installed.
    """
    missing = [package for package in _PACKAGES if not _is_installed(package)]
    if missing:
        raise UserError(f"{name} needs {' and '.join(missing)}: pip install 'azr-jax[gcs]'")


def require_compilation_cache() -> None:
    """Call it before JAX is imported: JAX makes a bucket that is not there, and goes on without a
    cache that it cannot use.

    Raises:
      UserError, StorageError: as `locate`.
    """
    place = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    if is_remote(place):
        locate(place)
        # XLA's own caches, on GPU, would lie in the same folder, and XLA cannot reach a bucket.
        os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")


def read(path: Path) -> bytes | None:
    """The content of a file; None where there is none.

    Raises:
      StorageError: the bucket cannot be read.
    """
    try:
        if not is_remote(path):
            return path.read_bytes()
        with _translated(path, "read"):
            content: bytes = _filesystem().cat_file(os.fspath(path))
            return content
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def write(path: Path, content: str | bytes) -> None:
    """A file, whole or not at all; its folder is made where it has to be.

    Raises:
      StorageError: the bucket cannot be written.
      OSError: the disk cannot.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    if is_remote(path):
        with _translated(path, "written"):
            _filesystem().pipe_file(os.fspath(path), data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def names(folder: Path) -> list[str]:
    """Of the files and folders in a folder, sorted; none where there is no such folder.

    Raises:
      StorageError: the bucket cannot be read.
    """
    try:
        if not is_remote(folder):
            return sorted(path.name for path in folder.iterdir())
        with _translated(folder, "read"):
            found = _filesystem().ls(os.fspath(folder), detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    own = os.fspath(folder).removeprefix(_GCS).rstrip("/")  # some tools mark a folder by an object
    return sorted(name.rpartition("/")[2] for name in found if name.rstrip("/") != own)


def is_folder(path: Path) -> bool:
    """A bucket has only folders with something in them."""
    return bool(names(path)) if is_remote(path) else path.is_dir()


def remove(path: Path) -> None:
    """A file, if it is there.

    Raises:
      StorageError: the bucket cannot be written.
    """
    try:
        if is_remote(path):
            with _translated(path, "removed"):
                _filesystem().rm_file(os.fspath(path))
        else:
            path.unlink()
    except FileNotFoundError:
        pass


def create(path: Path) -> NewFile:
    """A new file; its folder is made where it has to be.

    What is written to a local one is there at once, in a bucket only when it is sealed.

    Raises:
      FileExistsError: a local file is there already.
    """
    return _RemoteFile(path) if is_remote(path) else _LocalFile(path)


def local_copy(folder: Path) -> Path:
    """A local folder with the same files, folders in it left out; it lives as long as the process.

    Raises:
      StorageError: the bucket cannot be read.
    """
    return Path(_downloaded(os.fspath(folder)).name) if is_remote(folder) else folder


class _LocalFile:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("x", encoding="utf-8", errors="backslashreplace")

    def write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def seal(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


class _RemoteFile:
    def __init__(self, path: Path) -> None:
        self._path, self._parts = path, list[str]()

    def write(self, text: str) -> None:
        self._parts.append(text)

    def seal(self) -> None:
        write(self._path, "".join(self._parts))


@contextmanager
def _translated(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # of gcsfs, aiohttp, requests, google.auth: no common base
        raise StorageError(
            f"{path} cannot be {done}: {_line(error)}. Run the same command again once it can"
        ) from error


@functools.cache
def _filesystem() -> Any:
    import fsspec

    # It logs each failure with a traceback, then raises it.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    # etils', which Orbax and JAX use, too: a listing that is kept does not show what others write.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    return fsspec.filesystem("gcs", finalize_on_close=True)


@functools.cache
def _require_bucket(name: str) -> None:
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from google.cloud import storage
    from google.cloud.storage.retry import DEFAULT_RETRY

    place = f"{_GCS}{name}"
    try:
        # As Orbax asks, before it lists or deletes anything.
        storage.Client().get_bucket(name, retry=DEFAULT_RETRY.with_timeout(_PATIENCE_S))
    except api.NotFound:
        raise UserError(
            f"{place}: no such bucket; make it (gcloud storage buckets create), or mend the name"
        ) from None
    except (api.Forbidden, api.Unauthorized) as error:
        raise UserError(
            f"{place}: no right to the bucket and its objects: {_line(error)}. It takes the roles "
            "storage.objectAdmin and storage.legacyBucketReader"
        ) from error
    except (auth.DefaultCredentialsError, auth.RefreshError) as error:
        raise UserError(
            f"{place}: no Google credentials: {_line(error)}. On your own machine: gcloud auth "
            "application-default login"
        ) from error
    except ValueError as error:
        raise UserError(f"{place}: {_line(error)}") from error
    except Exception as error:
        raise StorageError(
            f"{place} cannot be reached: {_line(error)}. Run the same command again once it can"
        ) from error
    _filesystem()  # its settings come before anybody else's use


@functools.cache
def _downloaded(folder: str) -> tempfile.TemporaryDirectory[str]:
    here = tempfile.TemporaryDirectory(prefix="azr-")
    for name in names(locate(folder)):
        content = read(locate(folder) / name)
        if content is not None:
            (Path(here.name) / name).write_bytes(content)
    return here


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the parent
        return False


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
