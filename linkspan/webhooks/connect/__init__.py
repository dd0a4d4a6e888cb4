"""What a person does so that a provider calls us."""
