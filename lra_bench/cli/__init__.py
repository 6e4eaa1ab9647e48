"""Command line: one thin file per verb (parse, call, print)."""
