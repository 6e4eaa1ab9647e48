"""The tokens of ListOps: a constant, the same in every process and for generated and official data.

A digit's id is its value, so padding comes last: nothing of the language has to move for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import DataError, suggest

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
"""In the order in which the official generator draws them: draw k is operator k."""
VOCABULARY = (*"0123456789", *OPERATORS, "]", "[PAD]")
FIRST_OPERATOR = 10
CLOSE = 14
PAD = 15

_IDS = {token: index for index, token in enumerate(VOCABULARY[:PAD])}


def encode(text: str) -> NDArray[np.uint8]:
    """Ids of the tokens in a text; the parentheses of the official files may be there or not.

    Raises:
        DataError: an unknown token.
    """
    tokens = [token for token in text.split() if token not in ("(", ")")]
    try:
        return np.array([_IDS[token] for token in tokens], dtype=np.uint8)
    except KeyError as error:
        raise DataError(
            f"Unknown ListOps token {error.args[0]!r}. {suggest(str(error.args[0]), _IDS)}"
        ) from None


def decode(ids: Iterable[int]) -> str:
    """Text of ids, tokens separated by spaces; padding is left out."""
    return " ".join(VOCABULARY[index] for index in ids if index != PAD)


def with_parentheses(ids: Sequence[int] | NDArray[np.uint8]) -> str:
    """Text as in the official files, where an expression is a tree of pairs.

    (operator, first argument) is a pair, each further argument pairs with what came before it, and so
    does the closing bracket. So an operator with k arguments opens k + 1 pairs before its name.
    """
    pieces: list[str] = []
    open_operators: list[list[int]] = []  # place in `pieces`, arguments so far
    for index in map(int, ids):
        if FIRST_OPERATOR <= index < CLOSE:
            open_operators.append([len(pieces), 0])
            pieces.append(VOCABULARY[index])
            continue
        if index == CLOSE:
            place, num_arguments = open_operators.pop()
            pieces[place] = "( " * (num_arguments + 1) + pieces[place]
            pieces.append("] )")
        else:
            pieces.append(VOCABULARY[index])
        if open_operators:
            open_operators[-1][1] += 1
            pieces.append(")")
    return " ".join(pieces)
