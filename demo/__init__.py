"""`make demo`: a commit and a model become a running service, with real parts on one machine."""
