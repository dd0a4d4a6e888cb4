"""The receiver as an ASGI app: limits, routes, answers."""
