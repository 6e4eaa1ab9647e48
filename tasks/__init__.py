"""What the benchmark varies: one task per file, listed in catalog.yaml."""
