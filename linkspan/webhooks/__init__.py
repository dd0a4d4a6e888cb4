"""What others call to say that something may have changed: verified, written down, then acknowledged."""
