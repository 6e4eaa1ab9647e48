"""What the benchmark compares: one variant per file in family folders, listed in catalog.yaml."""
