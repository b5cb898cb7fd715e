"""Settings of predictions that are written in shards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from detectclf.config.base import Settings


class ShardConfig(Settings):
    """Which engine predicts, and how large the shards are."""

    engine: Literal["local", "ray"] = "local"
    """What predicts: this process, or actors of Ray Data on one machine or many."""
    shard_size: Annotated[int, Field(ge=1)] = 1000
    """Pictures and volumes of one shard, which is predicted again as a whole where it was not finished. A file that
    holds many pictures is a shard of its own."""
    ray_address: str | None = None
    """Cluster to use (``HOST:PORT`` or ``auto``); by default ``RAY_ADDRESS``, else this machine."""
    ray_cpus: Annotated[float, Field(gt=0)] = 2.0
    """CPUs of one actor, each of which holds the model."""


__all__ = ["ShardConfig"]
