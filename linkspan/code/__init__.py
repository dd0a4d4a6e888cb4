"""From a commit to a tested code image in the registry."""
