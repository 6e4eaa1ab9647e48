"""Mixers of fixed or learned global convolutions and transforms."""
