"""The HTTP API and the page of ``serve``: uploads are predicted in batches across requests, within limits.

FastAPI and uvicorn are imported here and nowhere else; they come with the extra ``serve``.
"""
