"""Runtimes: what computes the networks of a bundle, with torch or without."""
