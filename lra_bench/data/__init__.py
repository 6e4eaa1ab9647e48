"""Task contract, cache, splits and batches."""
