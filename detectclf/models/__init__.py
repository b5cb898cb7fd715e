"""The architectures, their weights, and stages and bundles on disk."""
