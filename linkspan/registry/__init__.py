"""The container registry: OCI distribution over httpx."""
