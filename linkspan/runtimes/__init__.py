"""Places that run releases: one protocol, one conformance suite, one folder a backend."""
