"""What we write in the registry: tags, labels, ModelPack, verdicts. Nothing else knows their names."""
