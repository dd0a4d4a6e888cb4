"""From an accepted hint to exactly one run: written down first, started until the server has it."""
