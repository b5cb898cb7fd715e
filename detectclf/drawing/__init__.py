"""Pictures: predictions, contact sheets, figures."""

from __future__ import annotations

from detectclf.drawing.predictions import draw_prediction

__all__ = ["draw_prediction"]
