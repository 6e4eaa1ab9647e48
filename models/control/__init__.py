"""Controls: trivial methods whose score says what a better score rules out."""
