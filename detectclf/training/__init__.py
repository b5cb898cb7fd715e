"""The training loop, the task of each stage, and the run directory."""
