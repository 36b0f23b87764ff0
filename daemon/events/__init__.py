"""What is published: sequence numbers, coalescing, last values."""
