"""lra-bench: accuracy, step time and peak memory of efficient attention on the Long Range Arena."""

__version__ = "0.1.0"
