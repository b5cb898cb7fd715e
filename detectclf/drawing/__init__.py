"""Pictures of predictions, contact sheets and figures, all drawn from plain data."""
