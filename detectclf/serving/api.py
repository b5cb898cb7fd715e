"""Routes of the HTTP API: predictions, models, health and figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field

from detectclf.prediction import Prediction
from detectclf.serving.batching import Answer
from detectclf.serving.metrics import CONTENT_TYPE
from detectclf.serving.problems import MEDIA_TYPE, ProblemError
from detectclf.serving.service import TheService

router = APIRouter()
# Routes that only look something up are coroutines: others wait for a thread, of which files of other requests may have
# all, and whether the server is alive has to be known then, too.


class Box(BaseModel):
    """A box of a record."""

    xyxy: list[float] = Field(description="Left, top, right and bottom, in pixels of the original picture.")
    class_: str = Field(alias="class")
    score: float


class Record(BaseModel):
    """The record of one picture; with `error`, every other field but `image` is null.

    A picture that is refused, as it is not a brain MRI, has no class, confidence or probabilities, and no boxes.
    """

    image: str = Field(description="Name of the uploaded file, without folders; of a zip also the path in it.")
    class_: str | None = Field(alias="class")
    confidence: float | None
    probabilities: dict[str, float] | None = Field(description="Class and probability; they sum to 1.")
    boxes: list[Box] | None = Field(description="Best score first; those of 0.5 or more count.")
    flags: list[str] | None = Field(description="Reasons for a human look.")
    width: int | None
    height: int | None
    model: str | None
    error: str | None = Field(description="Why the picture could not be read, one line.")


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str = Field(description="One line: file, reason, remedy.")
    code: str = Field(description="The problem, for programs.")
    records: list[Record] | None = Field(default=None, description="Where nothing could be read: all records.")


class Model(BaseModel):
    """A model that predicts here."""

    model: str = Field(description="Name and version, as records carry them.")
    classes: list[str]
    negative: str | None = Field(description="The class that means no tumour.")
    detector_classes: list[str]
    runtime: str
    device: str
    use: str


FILES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}
"""What OpenAPI says of a body that is read by :mod:`detectclf.serving.uploads`."""


def problems(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of answers that are problem details: ``s429="meaning"``."""
    schema = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {int(status[1:]): {"description": text, "content": schema} for status, text in statuses.items()}


UPLOAD_PROBLEMS = problems(
    s400="No file, or no multipart.",
    s401="The token is missing or wrong.",
    s408="The request came too slowly.",
    s413="Too many or too large files.",
    s429="Too much is waiting; see Retry-After.",
    s503="It took too long, or the server stops.",
)
"""What may be wrong with any request that uploads files."""


@router.post(
    "/v1/predict",
    response_model=list[Record],
    openapi_extra=FILES_BODY,
    tags=["predict"],
    responses=UPLOAD_PROBLEMS | problems(s422="No picture could be read; `records` says why, for each."),
)
async def predict(request: Request, service: TheService) -> Any:
    """Classifies slices and boxes their tumours: a record for each picture, in order.

    Send one or many files, in fields called `files`: PNG, JPEG, TIFF, BMP, DICOM, NIfTI (its middle slice), or zip
    archives of such. A picture that cannot be read gives a record with `error`.
    """
    uploads = await service.intake.uploads(request)
    answers = await service.all_answers(request, service.submit(uploads, _plain_record))
    records = [answer["record"] for answer in answers]
    if all(record["error"] is not None for record in records):
        code = "unsafe" if any(answer["exit"] == 3 for answer in answers) else "unreadable"
        raise ProblemError(422, code, records[0]["error"], records=records)
    return JSONResponse(records)


def _plain_record(prediction: Prediction) -> Answer:
    return {"record": prediction.to_record(), "exit": prediction.error_exit}


@router.get("/v1/models", tags=["models"])
async def models(service: TheService) -> list[Model]:
    """The models that predict here."""
    predictor = service.predictor
    return [
        Model(
            model=predictor.name,
            classes=list(predictor.names.classes),
            negative=predictor.names.negative,
            detector_classes=list(predictor.names.detector_classes),
            runtime=predictor.runtime.name,
            device=predictor.device,
            use="Research use only. Not a medical device, not for diagnosis.",
        )
    ]


@router.get("/healthz", tags=["operation"])
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", tags=["operation"], responses=problems(s503="The server stops, or the model has ended."))
async def readyz(service: TheService) -> dict[str, str]:
    """Whether pictures would be predicted now."""
    if service.draining or not service.batcher.alive:
        raise ProblemError(503, "not_ready", "the server finishes its work and stops; ask another one")
    return {"status": "ready"}


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
async def metrics(service: TheService) -> Response:
    """Figures for Prometheus."""
    text = service.metrics.text(service.batcher.waiting, service.in_hand)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


__all__ = ["FILES_BODY", "UPLOAD_PROBLEMS", "Model", "Problem", "Record", "problems", "router"]
