"""Names in stores that fsspec reaches, and how a store is asked: again where it does not answer, with errors of ours.

Errors of a store never carry its own text, which may hold a key; credentials are the business of the store's library
(environment, instance role, its own files) and never part of a name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from detectclf.errors import ConfigError, DataError, StorageError
from detectclf.uris import REMOVED, has_credentials, lower_schemes, shown

T = TypeVar("T")

_PAUSES_S = (0.5, 2.0, 8.0)
_REFUSED = (401, 403)
_EXTRA = "pip install 'detectclf[cloud]'"


class Stream:
    """An open file of a store, whose errors are ours."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name

    def read(self, size: int = -1) -> bytes:
        return ask(lambda: bytes(self._file.read(size)), self._name, again=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def store_of(name: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it; raises ConfigError where it cannot be had."""
    if name.endswith(REMOVED):
        reason = f"{shown(name)}: what stood after the name was not kept, since it may be a signature or a key"
        raise ConfigError(reason, remedy="give the whole URI again, with --data or as an input of predict")
    if has_credentials(name):
        raise ConfigError(
            f"{shown(name)}: a name must not hold credentials", remedy="give them as the store's library expects them"
        )
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ConfigError(f"{shown(name)}: needs fsspec", remedy=_EXTRA) from None
    return url_to_fs(lower_schemes(name))  # type: ignore[no-any-return]


def ask(question: Callable[[], T], name: str, *, again: bool = True) -> T:
    """The answer of a store, which is asked again where it does not answer."""
    pauses = iter(_PAUSES_S if again else ())
    while True:
        try:
            return question()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            if getattr(error.__cause__, "status", None) in _REFUSED:
                raise _unanswered("access is refused", name, may_pass=False) from None
            if not isinstance(error.__cause__, OSError) and getattr(error.__cause__, "status", 404) == 404:
                raise DataError("is not there", file=shown(name), remedy="check the name") from None
            # fsspec's HTTP says so of every failure.
            pause = next(pauses, None)
            if pause is None:
                raise _unanswered(f"does not answer ({type(error.__cause__).__name__})", name) from None
        except (ConfigError, DataError, StorageError):
            raise
        except ImportError as error:
            # The names of modules only, such as "Install s3fs to access S3".
            raise ConfigError(f"{shown(name)}: {error}", remedy=_EXTRA) from None
        except Exception as error:
            reason, may_pass = _reason(error)
            pause = next(pauses, None) if may_pass else None
            if pause is None:
                raise _unanswered(reason, name, may_pass) from None
        time.sleep(pause)


def _unanswered(reason: str, name: str, may_pass: bool = True) -> StorageError:
    refused = "check credentials and permissions" if shown(name) == name else "give freshly signed URLs"
    remedy = "go on with --resume when it answers" if may_pass else refused
    return StorageError(reason, file=shown(name), remedy=remedy)


def _reason(error: Exception) -> tuple[str, bool]:
    """What is said of an error of a store, and whether it may pass; its own text is never said."""
    kind = type(error).__name__
    if "Credential" in kind or "Token" in kind or "ProfileNotFound" in kind:
        return "there are no credentials for it, or they are not complete", False
    if isinstance(error, PermissionError) or getattr(error, "status", None) in _REFUSED:
        return "access is refused", False
    if isinstance(error, ValueError):
        return f"cannot be reached by fsspec ({kind})", False
    return f"does not answer ({kind})", True


__all__ = ["Stream", "ask", "store_of"]
