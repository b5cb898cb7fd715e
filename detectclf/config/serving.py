"""Settings of ``serve``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from detectclf.config.base import Settings

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

LEAST_TOKEN = 16
"""Fewest characters of a token."""


class ServeConfig(Settings):
    """Address, token and limits of the server."""

    host: str = "127.0.0.1"
    """Address or name to listen on. Any other than this machine itself needs a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen on; 0 for any that is free."""
    token: SecretStr | None = None
    """Secret that requests have to carry (``Authorization: Bearer``), at least 16 printable ASCII characters."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which the server may be called, such as that of a proxy before it."""
    max_files: Count = 256
    """Most pictures of one request; those in a zip archive count."""
    max_volume_files: Count = 4096
    """The same where volumes are asked for: a series has a file for each slice."""
    max_file_bytes: Count = 128 * 2**20
    """Most bytes of one uploaded file."""
    max_request_bytes: Count = 256 * 2**20
    """Most bytes of one request."""
    max_unpacked_bytes: Count = 2**30
    """Most bytes that one zip archive may unpack to."""
    max_waiting: Count = 512
    """Most pictures that wait for the model, of all requests together."""
    max_uploads: Count = 64
    """Most requests with files that are received or worked on at once, from head to answer; others get 429 at once.
    Fewer on a machine that takes longer than a tenth of ``timeout`` for a picture of each."""
    max_memory_bytes: Count = 2**30
    """Most bytes of uploads that are being received, and again of those that wait."""
    timeout: Positive = 300.0
    """Most seconds from the end of an upload to its answer."""
    upload_timeout: Positive = 120.0
    """Most seconds for receiving one request."""
    idle_timeout: Positive = 10.0
    """Most seconds without a byte of a body, and for the whole head of a request."""

    @field_validator("token")
    @classmethod
    def _token_is_long_and_plain(cls, token: SecretStr | None) -> SecretStr | None:
        text = "" if token is None else token.get_secret_value()
        plain = text.isascii() and text.isprintable() and " " not in text
        if token is not None and not (plain and len(text) >= LEAST_TOKEN):
            raise ValueError(f"a token is {LEAST_TOKEN} printable ASCII characters or more, without spaces")
        return token


__all__ = ["LEAST_TOKEN", "ServeConfig"]
