"""Exact attention: every query sees every key."""
