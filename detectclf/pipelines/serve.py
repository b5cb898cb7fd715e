"""``serve``: the page and the HTTP API."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.errors import ConfigError
from detectclf.pipelines.opening import predictor_of

if TYPE_CHECKING:
    from detectclf.config import PredictConfig, ServeConfig

log = logging.getLogger(__name__)


def serve(
    config: ServeConfig, predict: PredictConfig, *, model: Path | None = None, ready: Callable[[str, str], None]
) -> None:
    """Serves until SIGTERM or Ctrl+C; what was received until then is answered.

    Args:
        config: address, token and limits.
        predict: batch size, runtime and device.
        model: a bundle; by default the packaged one.
        ready: called with the address of the page and the name of the model, once requests are answered.

    Raises:
        ConfigError: the extra ``serve`` is not installed, the address cannot be used, or it needs a token.
        ModelError, DeviceError: as :func:`detectclf.inference.loading.load`.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"serve needs {error.name}, which is not installed", remedy="pip install 'detectclf[serve]'"
        ) from error
    from detectclf.serving.guard import is_loopback
    from detectclf.serving.server import listen, run, url_of
    from detectclf.serving.service import Service

    if not is_loopback(config.host):
        if config.token is None:
            raise ConfigError(
                f"on {config.host}, other machines could use the model and send it files",
                remedy="leave --host out, or say who may: --token SECRET (or the variable DETECTCLF_TOKEN)",
            )
        log.warning(
            "%s: whoever reaches this machine and has the token can use the model. Pictures and the token travel "
            "unencrypted: put a proxy with TLS before it, or use a network that you trust",
            config.host,
        )
    with listen(config) as listener:
        predictor = predictor_of(model, {}, predict)
        _warm_up(predictor.predict)
        service, url = Service(predictor, config), url_of(listener)
        run(service, listener, lambda: ready(url, predictor.name))


def _warm_up(predict: Callable[..., object]) -> None:
    """The first prediction takes longer; nobody should wait for that."""
    from detectclf.sample_data.slices import sample_slice

    predict(sample_slice(1, "glioma", "axial").pixels)
