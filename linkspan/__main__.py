"""`python -m linkspan`: the command line, where it is not on the PATH, such as in a git hook."""

from linkspan.cli import main

main()
