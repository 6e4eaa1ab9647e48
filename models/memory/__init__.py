"""Recurrence over segments: each segment also sees a memory of earlier ones."""
