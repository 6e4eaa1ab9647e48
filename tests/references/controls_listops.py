"""Random ListOps expressions as nested lists, and the facts about their roots read off the lists."""

from __future__ import annotations

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")


def random_expression(rng, depth=3):
    """(operator, [arguments]), an argument being such a pair or a digit; the root is never a digit."""
    arguments = []
    for _ in range(int(rng.integers(1, 12))):
        nested = depth > 1 and rng.random() < 0.4
        arguments.append(random_expression(rng, depth - 1) if nested else int(rng.integers(10)))
    return OPERATORS[rng.integers(4)], arguments


def words(expression):
    if isinstance(expression, int):
        return [str(expression)]
    operator, arguments = expression
    return [operator] + [word for argument in arguments for word in words(argument)] + ["]"]


def parsed(tokens):
    """Words back to an expression, by recursive descent."""
    rest = list(tokens)

    def read():
        word = rest.pop(0)
        if word not in OPERATORS:
            return int(word)
        arguments = []
        while rest[0] != "]":
            arguments.append(read())
        rest.pop(0)
        return word, arguments

    expression = read()
    assert not rest, f"words after the end: {rest}"
    return expression


def root_facts(expression):
    """(first word, least literal or None, greatest literal or None, nested arguments)"""
    if isinstance(expression, int):
        return str(expression), None, None, 0
    operator, arguments = expression
    digits = sorted(argument for argument in arguments if isinstance(argument, int))
    nested = len(arguments) - len(digits)
    return (operator, digits[0], digits[-1], nested) if digits else (operator, None, None, nested)
