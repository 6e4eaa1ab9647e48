"""The official process in plain Python, recursive, on a given stream of uniform numbers.

Follows the order of draws that the golden replay file documents, and evaluates nothing.
"""

from __future__ import annotations

MASK = 2**64 - 1
OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")


class Stream:
    """splitmix64 from a start state."""

    def __init__(self, state):
        self.state = state

    def word(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def uniform(self):
        return (self.word() >> 11) * 2.0**-53

    def randint(self, low, high):
        return low + int(self.uniform() * (high - low))


def draw(stream, max_depth=10, max_args=10, depth=1):
    """A tree as nested tuples (operator, argument, ...) or a digit."""
    is_value = stream.uniform() > 0.25 if depth < max_depth else True
    if is_value:
        return stream.randint(0, 10)
    num_arguments = stream.randint(2, max_args + 1)
    arguments = [draw(stream, max_depth, max_args, depth + 1) for _ in range(num_arguments)]
    return (OPERATORS[stream.randint(0, 4)], *arguments)


def tokens(tree):
    """The text without parentheses, as a list."""
    if isinstance(tree, int):
        return [str(tree)]
    operator, *arguments = tree
    return [operator, *(token for argument in arguments for token in tokens(argument)), "]"]


def fnv1a(ids):
    """64-bit FNV-1a of a byte string."""
    code = 0xCBF29CE484222325
    for byte in ids:
        code = ((code ^ byte) * 0x100000001B3) & MASK
    return code
