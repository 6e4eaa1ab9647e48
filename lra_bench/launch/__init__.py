"""Where cells run: child processes on this machine."""
