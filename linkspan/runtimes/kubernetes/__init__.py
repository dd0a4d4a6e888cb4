"""The kubernetes runtime: any conformant cluster."""
