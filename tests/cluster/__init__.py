"""A real Kubernetes cluster of one node for the tests, from Go modules and Debian packages.

`python -m tests.cluster up` starts it and `down` removes it. Every part is a process of its own, so that a
test may kill one of them. All it keeps is in one folder; see places.py.
"""
