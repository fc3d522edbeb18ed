"""What can be known of a run before it takes GPUs: storage, inputs, one batch, memory. Reads little, trains nothing."""
