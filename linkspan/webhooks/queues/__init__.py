"""Sources that cannot call us: queues that we read."""
