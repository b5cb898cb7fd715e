"""Bytes to pixels: pictures, DICOM and NIfTI as upright grey slices, and how they are resized."""
