"""Which slices show one source slice: fingerprints, near-copies, leakage."""
