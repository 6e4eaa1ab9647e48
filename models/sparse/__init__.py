"""Sparse attention with fixed patterns."""
