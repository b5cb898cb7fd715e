"""The version of the package, which every module can import."""

__version__ = "0.1.0"


def installed_version(package: str) -> str | None:
    """Version of an installed package by the name of its distribution, ``None`` where it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
