"""From the newest pair to a running release."""
