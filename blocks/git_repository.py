"""Where the app's code is."""

from prefect.blocks.core import Block

from linkspan.code.source import GitSettings


class GitRepository(GitSettings, Block):
    """Where the code of an app is, how to get in, and which branch counts."""

    _block_type_name = "Git repository"
    _block_type_slug = "git-repository"
