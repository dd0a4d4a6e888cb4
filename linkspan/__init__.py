"""Linkspan turns every commit and every published model into one running release."""

__version__ = "0.1.0"
