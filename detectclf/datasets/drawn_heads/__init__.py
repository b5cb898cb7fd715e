"""Slices of any contrast, drawn from label maps of whole heads, with tumours of real masks."""
