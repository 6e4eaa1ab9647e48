"""Attention through a low-rank bottleneck."""
