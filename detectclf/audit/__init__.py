"""What is wrong with a data set, and a fixed copy of it."""
