"""The ListOps generator, compiled: the process of Nangia and Bowman (2018) with the numbers of Tay et al.

A node is an operator with probability 1/4, else a digit; below the depth limit it is a digit without a
draw. An operator has 2 to `max_args` arguments, equally likely, and is drawn after its arguments. An
expression is kept if it has more than `min_length` and fewer than `max_length` tokens, brackets counted.

Its length is 1 plus, for each operator, the number of its arguments plus 1 (the closing bracket; the
operator itself stands in its parent's place). That sum is known as soon as the numbers of arguments are
drawn, so a tree that grows too long is abandoned early. Every attempt has a random stream of its own,
hence where one is abandoned does not bear on the next.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lra_bench.tasks.random_stream import randint, stream_state, uniform

VALUE_PROBABILITY = 0.75
NUM_CLASSES = 8
"""Expressions are sorted by a hash into this many classes, see `expression_class`."""
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_CLASS_SHIFT = np.uint64(61)


@njit(cache=True, nogil=True)
def apply_operator(operator, values, start, stop):  # type: ignore[no-untyped-def]
    """Value of operator 10 MIN, 11 MAX, 12 MED or 13 SM on values[start:stop], digits."""
    if operator == 10:
        least = values[start]
        for k in range(start + 1, stop):
            least = min(least, values[k])
        return least
    if operator == 11:
        greatest = values[start]
        for k in range(start + 1, stop):
            greatest = max(greatest, values[k])
        return greatest
    if operator == 13:
        total = 0
        for k in range(start, stop):
            total += values[k]
        return total % 10
    # The median counts digits; of an even number, it is the mean of the middle two, truncated.
    count = stop - start
    lower_rank, upper_rank = (count - 1) // 2, count // 2
    below = 0
    lower = -1
    for digit in range(10):
        for k in range(start, stop):
            if values[k] == digit:
                below += 1
        if lower < 0 and below > lower_rank:
            lower = digit
        if below > upper_rank:
            return (lower + digit) // 2
    return -1


@njit(cache=True, nogil=True)
def draw_expression(stream, max_length, shape, tokens, values):  # type: ignore[no-untyped-def]
    """Draws one tree from a stream, in the official order of draws, into `tokens`.

    stream: uint64 array of one element, advanced; shape: (max_depth, max_args); tokens: at least
    max_length - 1 uint8; values: as many int64, working memory. Returns (number of tokens, value of
    the expression), or (0, -1) if it would have `max_length` tokens or more.
    """
    max_depth, max_args = shape
    place = np.empty(max_depth, np.int64)  # of open operators: where their token goes
    missing = np.empty(max_depth, np.int64)  # their arguments still to come
    first_value = np.empty(max_depth, np.int64)  # where their arguments' values start
    length = 1  # of the whole tree, as far as it is known
    n = 0
    depth = 0  # open operators
    num_values = 0
    while True:
        is_value = True
        if depth + 1 < max_depth:
            is_value = uniform(stream) > 1.0 - VALUE_PROBABILITY
        if not is_value:
            num_arguments = 2 + randint(stream, max_args - 1)
            length += num_arguments + 1
            if length >= max_length:
                return 0, -1
            place[depth] = n
            missing[depth] = num_arguments
            first_value[depth] = num_values
            n += 1
            depth += 1
            continue
        digit = randint(stream, 10)
        tokens[n] = digit
        n += 1
        values[num_values] = digit
        num_values += 1
        while depth > 0:
            missing[depth - 1] -= 1
            if missing[depth - 1] > 0:
                break
            depth -= 1
            operator = 10 + randint(stream, 4)
            tokens[place[depth]] = operator
            tokens[n] = 14
            n += 1
            start = first_value[depth]
            values[start] = apply_operator(operator, values, start, num_values)
            num_values = start + 1
        if depth == 0:
            return n, values[0]


@njit(cache=True, nogil=True)
def expression_class(tokens, length):  # type: ignore[no-untyped-def]
    """0..NUM_CLASSES-1 from a hash (FNV-1a, then scrambled) of an expression's tokens alone."""
    code = _FNV_OFFSET
    for k in range(length):
        code = (code ^ np.uint64(tokens[k])) * _FNV_PRIME
    return np.int64(stream_state(code, 0) >> _CLASS_SHIFT)


@njit(cache=True, nogil=True)
def generate(seed, indices, classes, lengths, shape):  # type: ignore[no-untyped-def]
    """Examples start..stop of those whose class lies in first_class..stop_class-1.

    All arguments but the seed are pairs of int: indices (start, stop), classes (first, one past last),
    lengths (min_length, max_length), both exclusive, shape (max_depth, max_args).
    Returns tokens (total,) uint8, offsets (stop - start + 1,) int64, labels (stop - start,) int64.
    """
    start, stop = indices
    first_class, stop_class = classes
    min_length, max_length = lengths
    count = stop - start
    tokens = np.empty(count * 256 + max_length, np.uint8)
    offsets = np.zeros(count + 1, np.int64)
    labels = np.empty(count, np.int64)
    values = np.empty(max_length, np.int64)
    stream = np.empty(1, np.uint64)
    for i in range(count):
        position = offsets[i]
        if position + max_length > len(tokens):
            larger = np.empty(2 * len(tokens) + max_length, np.uint8)
            larger[:position] = tokens[:position]
            tokens = larger
        room = tokens[position:]
        key = stream_state(seed, start + i)
        attempt = 0
        while True:
            stream[0] = stream_state(key, attempt)
            attempt += 1
            length, label = draw_expression(stream, max_length, shape, room, values)
            if length > min_length and first_class <= expression_class(room, length) < stop_class:
                break
        offsets[i + 1] = position + length
        labels[i] = label
    return tokens[: offsets[count]].copy(), offsets, labels


@njit(cache=True, nogil=True)
def evaluate(tokens, values, arguments):  # type: ignore[no-untyped-def]
    """Value of an expression, or -1 if it is not well formed.

    tokens: (n,) uint8; values, arguments: (n,) int64, working memory.
    """
    num_values = 0
    depth = 0  # open operators, their places in `arguments`: token, where their values start
    for k in range(len(tokens)):
        token = tokens[k]
        if k > 0 and depth == 0:
            return -1
        if token < 10:
            values[num_values] = token
            num_values += 1
        elif token < 14:
            arguments[depth] = num_values * 16 + token
            depth += 1
        elif token == 14:
            depth -= 1
            if depth < 0:
                return -1
            start = arguments[depth] >> 4
            if num_values == start:
                return -1
            values[start] = apply_operator(arguments[depth] & 15, values, start, num_values)
            num_values = start + 1
        else:
            return -1
    return values[0] if depth == 0 and num_values == 1 else -1
