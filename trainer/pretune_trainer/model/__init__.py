"""Making a model, and what its arithmetic is: attention, losses, floating-point operations."""
