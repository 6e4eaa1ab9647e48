"""Variants that change the layer around the mixer."""
