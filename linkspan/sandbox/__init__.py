"""Where foreign code runs: without our secrets, within limits."""
