"""Diagonal state space models."""
