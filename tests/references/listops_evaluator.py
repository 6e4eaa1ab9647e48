"""ListOps by its definition: parse an expression recursively, then apply Python's own functions."""

from __future__ import annotations

import statistics

FUNCTIONS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda arguments: int(statistics.median(arguments)),
    "[SM": lambda arguments: sum(arguments) % 10,
}


def parse(text):
    """Text, with or without parentheses -> nested tuples (operator, argument, ...) or a digit."""
    tokens = iter(token for token in text.split() if token not in {"(", ")"})
    tree = _tree(next(tokens), tokens)
    assert next(tokens, None) is None, "tokens after the end"
    return tree


def _tree(head, tokens):
    if head not in FUNCTIONS:
        return int(head)
    arguments = []
    for token in tokens:
        if token == "]":
            return (head, *arguments)
        arguments.append(_tree(token, tokens))
    raise AssertionError("a bracket is missing")


def value(tree):
    if isinstance(tree, int):
        return tree
    operator, *arguments = tree
    return FUNCTIONS[operator]([value(argument) for argument in arguments])


def evaluate(text):
    return value(parse(text))


def depth(tree):
    """How many operators are inside each other at most."""
    return 0 if isinstance(tree, int) else 1 + max(depth(argument) for argument in tree[1:])


def operators(tree):
    """(operator, number of arguments) of every operator in the tree."""
    if isinstance(tree, int):
        return []
    return [(tree[0], len(tree) - 1), *(found for argument in tree[1:] for found in operators(argument))]


def official_text(tree):
    """Left-nested pairs, as the released files print them."""
    if isinstance(tree, int):
        return str(tree)
    operator, *arguments = tree
    text = operator
    for part in [*map(official_text, arguments), "]"]:
        text = f"( {text} {part} )"
    return text
