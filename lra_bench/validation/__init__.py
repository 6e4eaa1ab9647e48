"""The proof that every registered model has passed, for any module."""
