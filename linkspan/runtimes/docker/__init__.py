"""The docker runtime: one machine, replicas behind a proxy."""
