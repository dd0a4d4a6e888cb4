"""Who may call us: one file a provider, and the proofs and forms that several share."""
