"""The application: routes, what guards them, and the end of the queue when the server stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from detectclf.serving import api, page, volumes
from detectclf.serving.guard import Guard
from detectclf.serving.problems import ProblemError, answer_problem
from detectclf.serving.service import Service
from detectclf.version import __version__


def create_app(service: Service) -> FastAPI:
    """The ASGI application of ``service``, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.draining = True
        service.batcher.close()

    app = FastAPI(
        title="detectclf",
        version=__version__,
        description="Finds, boxes and classifies brain tumours on MRI slices. "
        "Research use only: not a medical device, not for diagnosis.",
        docs_url=None,  # those of FastAPI load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(api.router)
    app.include_router(volumes.router)
    app.include_router(page.router)
    for kind in (ProblemError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer_problem)
    app.add_middleware(Guard, service=service)
    _describe_problems(app, service.config.token is not None)
    return app


def _describe_problems(app: FastAPI, token: bool) -> None:
    """Adds what FastAPI does not find by itself to the OpenAPI document: problem details, and the token."""
    document: dict[str, Any] = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = api.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas["Problem"].pop("$defs", None)
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]


__all__ = ["create_app"]
