"""Routes of the page: its files, drawn example slices, and predictions of pictures and volumes with what to show."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from anyio import CancelScope
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException

from detectclf.drawing.palette import color_of
from detectclf.drawing.predictions import heat_layer
from detectclf.errors import DetectclfError
from detectclf.inference.predictor import Predictor
from detectclf.inference.sources import Encoded, pixels_of
from detectclf.inference.study_rule import tumor_probability
from detectclf.prediction import Prediction
from detectclf.serving.batching import Answer, Job, Upload
from detectclf.serving.problems import ProblemError, busy, internal_error
from detectclf.serving.service import Service, TheService
from detectclf.serving.volumes import Ended, Started, Step, steps_of
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


_TYPES = {".css": "text/css", ".js": "text/javascript"}


@lru_cache(maxsize=1)
def _static() -> dict[str, tuple[str, str]]:
    """Name of a file -> its content and media type."""
    files = (resources.files("detectclf.serving") / "static").iterdir()
    types = ((file, _TYPES.get("." + file.name.rpartition(".")[2])) for file in files)
    return {file.name: (file.read_text(encoding="utf-8"), type) for file, type in types if type}


@router.get("/")
def page(service: TheService) -> HTMLResponse:
    """The page."""
    classes = service.predictor.names.classes
    config = service.config
    settings = {
        "colors": {name: color_of(name, classes) for name in classes},
        "negative": service.predictor.names.negative,
        "mostBytes": config.max_file_bytes,
        "mostRequestBytes": config.max_request_bytes,
        "mostVolumeFiles": config.max_volume_files,
    }
    template = _templates().get_template("page.html.j2")
    shown = {"model": service.predictor.name, "version": __version__, "classes": classes}
    return HTMLResponse(template.render(settings=settings, **shown))


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The API, from its OpenAPI document."""
    return HTMLResponse(_templates().get_template("docs.html.j2").render(api=request.app.openapi()))


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Style and scripts of the pages."""
    if name not in _static():
        raise HTTPException(404)
    content, media_type = _static()[name]
    return Response(content, media_type=media_type)


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
    except Exception as error:
        yield _problem_line(error)


def _problem_line(error: Exception) -> str:
    """A line about what went wrong after the first ones, which is too late for a status of its own."""
    problem = error if isinstance(error, ProblemError) else internal_error(error)
    return json.dumps({"problem": problem.document()}) + "\n"


@router.post("/page/volumes")
async def volumes_for_page(request: Request, service: TheService) -> StreamingResponse:
    """As ``/v1/volumes``, but JSON Lines, each as it is made, with the slices as PNG."""
    if service.volumes.locked():  # before the body, which may be large, is read
        raise busy("volumes_busy", "another volume is being worked on; try again", 2)
    uploads = await service.intake.uploads(request, service.config.max_volume_files)
    return StreamingResponse(_volume_lines(service, uploads), media_type="application/x-ndjson")


async def _volume_lines(service: Service, uploads: Sequence[Upload]) -> AsyncIterator[str]:
    async with service.volumes:
        end = asyncio.get_running_loop().time() + service.config.timeout
        steps, negative = steps_of(service, uploads), service.predictor.names.negative
        try:
            async for answer in iterate_in_threadpool(_step_shown(step, negative) for step in steps):
                yield json.dumps(answer, allow_nan=False) + "\n"
                if asyncio.get_running_loop().time() > end:
                    raise service.late()
        except Exception as error:
            yield _problem_line(error)
        finally:
            # In a thread, as thousands of files may have to be deleted; shielded, as it may be after a cancellation.
            with CancelScope(shield=True):
                await run_in_threadpool(steps.close)


def _step_shown(step: Step, negative: str | None) -> Answer:
    """A line about a step; slices have their tumour probability, which the curve is made of."""
    if isinstance(step, Started):
        return {"started": step._asdict()}
    if isinstance(step, Ended):
        return {"study": step.record, "judged": step.judged}
    prediction = step.prediction
    if prediction is None or step.source is None or prediction.error is not None:
        return {"record": step.record, "judged": False}
    answer = _answer(prediction, step.record, pixels_of(step.source))
    return answer | {"tumor": tumor_probability(prediction, negative)}


@router.post("/page/explain")
async def explain_for_page(request: Request, service: TheService) -> dict[str, Any]:
    """The activation map of one picture, as the page shows it: class, fit, seconds, and a PNG to lay over it."""
    (upload, *others) = await service.intake.uploads(request)
    if others:
        raise ProblemError(413, "too_many_files", "one picture at a time is explained; send one")
    if service.explaining.locked():
        raise busy("explaining", "another picture is being explained; try again", 1)
    async with service.explaining:
        return await run_in_threadpool(_explained, service.predictor, upload)


def _explained(predictor: Predictor, upload: Upload) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        prediction = predictor.predict(Encoded(upload.name, upload.read()), explain=True)
    except DetectclfError as error:
        raise ProblemError(422, "not_explained", str(error)) from error
    heat = prediction.heatmap
    if heat is None:
        raise ProblemError(422, "not_explained", f"{upload.name}: has no class to explain; give a brain MRI")
    layer, seconds = heat_layer(heat), time.perf_counter() - started
    said = {"class": prediction.label, "evidence": bool(heat.max() > 0), "fit": prediction.heatmap_fit}
    return said | {"png": _encoded(layer), "seconds": seconds}


def _shown(prediction: Prediction) -> Answer:
    return _answer(prediction, prediction.to_record(), prediction.origin.pixels)


def _answer(prediction: Prediction, record: dict[str, Any], pixels: Pixels | None) -> Answer:
    """Record, picture, the score from which boxes count, and whether the class means anything."""
    png = None if pixels is None or prediction.error is not None else _encoded(pixels)
    return {"record": record, "png": png, "box_threshold": prediction.box_threshold, "judged": prediction.judged}


def _encoded(pixels: Pixels) -> str:
    return base64.b64encode(_png(pixels)).decode()


def _png(pixels: Pixels) -> bytes:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG", compress_level=1)
    return content.getvalue()


__all__ = ["router"]
