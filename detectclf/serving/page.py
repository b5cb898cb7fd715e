"""Routes of the page: its files, drawn example slices, and predictions with a picture to show."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from detectclf.drawing.palette import color_of
from detectclf.prediction import Prediction
from detectclf.serving.batching import Answer, Job
from detectclf.serving.problems import ProblemError, internal_error
from detectclf.serving.service import Service, TheService
from detectclf.types import Pixels
from detectclf.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

LONGEST_SIDE = 1536
"""Most pixels of a side of a picture that is shown."""

router = APIRouter(include_in_schema=False)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("detectclf.serving"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


@lru_cache(maxsize=2)
def _static(name: str) -> str:
    return (resources.files("detectclf.serving") / "static" / name).read_text(encoding="utf-8")


@router.get("/")
def page(service: TheService) -> HTMLResponse:
    """The page."""
    classes = service.predictor.names.classes
    settings = {"colors": {name: color_of(name, classes) for name in classes}, "most": service.config.max_file_bytes}
    template = _templates().get_template("page.html.j2")
    shown = {"model": service.predictor.name, "version": __version__, "classes": classes}
    return HTMLResponse(template.render(settings=settings, **shown))


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The API, from its OpenAPI document."""
    return HTMLResponse(_templates().get_template("docs.html.j2").render(api=request.app.openapi()))


@router.get("/page.css")
def style() -> Response:
    """The style of both pages."""
    return Response(_static("page.css"), media_type="text/css")


@router.get("/page.js")
def script() -> Response:
    """The script of the page."""
    return Response(_static("page.js"), media_type="text/javascript")


@router.get("/page/example/{kind}")
def example(kind: Literal["glioma", "meningioma", "pituitary", "no_tumor"]) -> Response:
    """A drawn slice as PNG."""
    return Response(_example(kind), media_type="image/png")


@lru_cache(maxsize=4)
def _example(kind: str) -> bytes:
    from detectclf.sample_data.slices import sample_slice

    return _png(sample_slice(1, kind, "axial").pixels)


@router.post("/page/predict")
async def predict_for_page(request: Request, service: TheService) -> StreamingResponse:
    """As ``/v1/predict``, but JSON Lines, each as it is made, with the picture as PNG."""
    uploads = await service.intake.uploads(request)
    job = service.submit(uploads, _shown)
    return StreamingResponse(_lines(service, job), media_type="application/x-ndjson")


async def _lines(service: Service, job: Job) -> AsyncIterator[str]:
    try:
        async for answer in service.each_answer(job):
            yield json.dumps(answer, allow_nan=False) + "\n"
    except Exception as error:  # too late for a status of its own
        problem = error if isinstance(error, ProblemError) else internal_error(error)
        yield json.dumps({"problem": problem.document()}) + "\n"


def _shown(prediction: Prediction) -> Answer:
    """Record, picture, the score from which boxes count, and whether the class means anything."""
    pixels = prediction.origin.pixels
    png = None if pixels is None or prediction.error is not None else base64.b64encode(_png(pixels)).decode()
    shown = {"box_threshold": prediction.box_threshold, "judged": prediction.judged}
    return {"record": prediction.to_record(), "png": png, **shown}


def _png(pixels: Pixels) -> bytes:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)
    return content.getvalue()


__all__ = ["router"]
