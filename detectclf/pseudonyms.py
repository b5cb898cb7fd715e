"""Pseudonyms of patients: a keyed hash in the place of an id, made at once where an id is read.

An id from a clinic is never kept, logged or written. In its place stands an HMAC-SHA256 under a key that only this user
has, so that nobody can try out ids without the key, and the same id gives the same pseudonym in every source. Patients
of public data have public numbers, such as ``figshare-229``.

The key lies in the user's configuration folder, readable by the user alone. ``DETECTCLF_PATIENT_KEY`` gives another
one, with which several machines make the same pseudonyms.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import unicodedata
from functools import cache
from pathlib import Path

from detectclf.errors import ConfigError
from detectclf.leftovers import unfinished_name

KEY_VARIABLE = "DETECTCLF_PATIENT_KEY"
KEY_FILE = "patient.key"

_SHORTEST_KEY = 16
_HASH_DIGITS = 20
_PSEUDONYM = re.compile(rf"anon-[0-9a-f]{{{_HASH_DIGITS}}}|figshare-[1-9][0-9]{{0,3}}")
_PADDING = re.compile(r"^[\s\0]+|[\s\0]+$")
# What export and anonymisation tools write where there is no id. Taken as an id, it would make one patient of all.
_NO_ID = frozenset({"", "-", "?", "na", "n/a", "nan", "none", "null", "unknown", "anon", "anonymous", "anonymized"})
_NO_ID_TOO = frozenset({"anonymised", "removed", "deidentified", "de-identified"})


def pseudonym(identity: str) -> str | None:
    """The opaque name of the patient whose id is ``identity``; a pseudonym gives itself.

    Args:
        identity: an id from a file. Blanks round it and the Unicode form of its letters do not matter; case does.

    Returns:
        ``anon-`` and 20 hexadecimal digits, or ``None`` where ``identity`` is blank or says that there is no id, as
        ``unknown`` and ``ANONYMOUS`` do.

    Raises:
        ConfigError: the key cannot be read or made.
    """
    plain = _PADDING.sub("", unicodedata.normalize("NFC", identity))
    if plain.casefold() in _NO_ID | _NO_ID_TOO:
        return None
    if is_pseudonym(plain):
        return plain
    digest = hmac.new(_key(), plain.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"anon-{digest.hexdigest()[:_HASH_DIGITS]}"


def is_pseudonym(text: str) -> bool:
    """Whether ``text`` is the opaque name of a patient, and may be written."""
    return _PSEUDONYM.fullmatch(text) is not None


def key_check() -> str:
    """What tells whether two names were made with the same key, without telling the key.

    Raises:
        ConfigError: the key cannot be read or made.
    """
    return hmac.new(_key(), b"detectclf: which key is this?", hashlib.sha256).hexdigest()[:_HASH_DIGITS]


def is_hashed(name: str) -> bool:
    """Whether a pseudonym depends on the key."""
    return name.startswith("anon-")


def key_file() -> Path:
    """Where the key lies; it need not exist yet."""
    from platformdirs import user_config_path

    return user_config_path("detectclf", appauthor=False) / KEY_FILE


def _key() -> bytes:
    given = os.environ.get(KEY_VARIABLE)
    if given is not None:
        if len(given) < _SHORTEST_KEY:
            raise ConfigError(
                f"{KEY_VARIABLE} is shorter than {_SHORTEST_KEY} characters",
                remedy="give a long random text, the same on every machine",
            )
        return given.encode("utf-8", "surrogateescape")
    return _key_in(key_file())


@cache
def _key_in(file: Path) -> bytes:
    try:
        return _read_key(file) if file.exists() else _make_key(file)
    except OSError as error:
        raise ConfigError(
            f"the key that hides the ids of patients cannot be read or made ({error.strerror})",
            file=file,
            remedy=f"check its permissions, or give a key in {KEY_VARIABLE}",
        ) from error


def _read_key(file: Path) -> bytes:
    content = file.read_bytes().strip()
    if len(content) < _SHORTEST_KEY:
        raise ConfigError("is not a key of patients' ids", file=file, remedy="remove it; a new one is made then")
    return content


def _make_key(file: Path) -> bytes:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = file.with_name(unfinished_name())
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
        try:
            # Not a rename: of two processes that make a key at once, the first must win.
            os.link(partial, file)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)
    return _read_key(file)


__all__ = ["KEY_VARIABLE", "is_hashed", "is_pseudonym", "key_check", "key_file", "pseudonym"]
