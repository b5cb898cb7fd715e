"""Prediction: sources are decoded, run through the stages of a bundle, fused and written as records."""
