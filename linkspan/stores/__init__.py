"""Places where models are published. A new kind is one file here, one conformance parameter and one block."""
