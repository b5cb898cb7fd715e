"""Figures from predictions and labels, their intervals, leakage, the report, the leader board and the model card."""
