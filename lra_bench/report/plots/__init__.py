"""Figures from records: one style, the same colour and marker for a model everywhere."""
