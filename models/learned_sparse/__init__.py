"""Sparse attention whose pattern depends on the content: hashed, sorted or clustered."""
