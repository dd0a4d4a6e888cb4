"""The Prefect server over REST, for everything that must not wait for `import prefect`."""
