"""Measuring sessions: step time, memory and FLOPs of many models side by side, without training."""
