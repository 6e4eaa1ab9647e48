"""An attention variant of our own."""
