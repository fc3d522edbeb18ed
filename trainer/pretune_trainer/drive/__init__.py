"""Between the driver and its ranks: orders, events, metrics, and the processes that carry them."""
