"""What commands print: results on stdout, everything else on stderr.

Even the standard library's modules are imported where they are used: ``--help`` needs none of them.
"""

from __future__ import annotations

import sys
from typing import Any


def setup_logging(quiet: bool, verbose: bool) -> None:
    """Sends the package's log to stderr: warnings only with ``--quiet``, everything with ``--verbose``."""
    import logging

    from detectclf.uris import without_secrets

    class PlainLines(logging.Formatter):
        """Lines that hold no signature of a URL, whoever wrote them."""

        def format(self, record: logging.LogRecord) -> str:
            return without_secrets(super().format(record))

    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines("%(message)s"))
    logger = logging.getLogger("detectclf")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def print_json(document: Any) -> None:
    """One JSON document on stdout; lone surrogates of odd file names are escaped, never a crash."""
    import json

    print(json.dumps(document, ensure_ascii=True, allow_nan=False))


def say(text: str, quiet: bool = False) -> None:
    """A line for a person, on stdout; never fails on a name that the terminal cannot show."""
    if not quiet:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding))


def command_line() -> str:
    """The command as typed, for reports; folders of the program itself left out."""
    import shlex

    from detectclf.uris import without_secrets

    return shlex.join(["detectclf", *(without_secrets(word) for word in sys.argv[1:])])
