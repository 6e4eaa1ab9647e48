"""Step time, peak memory, FLOPs and environment, each measured in a phase of its own."""
