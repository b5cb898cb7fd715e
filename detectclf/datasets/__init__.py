"""Data sets for training: opened, split, dealt into folds, augmented and put into batches."""
