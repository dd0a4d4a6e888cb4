"""The code image: built from a commit's tree, tested inside itself, pushed."""

from linkspan.build.builder import Builder, BuilderSettings
from linkspan.build.key import build_key

__all__ = ["Builder", "BuilderSettings", "build_key"]
