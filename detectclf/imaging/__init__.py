"""Reads images, DICOM and NIfTI files as upright grey slices, and resizes them."""
