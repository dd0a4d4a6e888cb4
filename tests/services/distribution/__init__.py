"""CNCF Distribution 3, the second real registry of the tests: a program of ours around its Go module."""
