"""Drawn slices that come with the package, as a COCO export."""
