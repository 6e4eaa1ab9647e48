"""The control that reads a ListOps expression's root and computes nothing below it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lra_bench.data.task import TaskSpec
from lra_bench.errors import UsageError, require
from lra_bench.models.control.first_token import first_real_token

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
CLOSE = "]"
NO_LITERAL = 10
"""Stands for the least and the greatest literal where the root has none."""
MOST_NESTED = 15
"""More nested arguments count as this many; the task's default allows 10 arguments in all."""


class RootArguments(nn.Module):
    """Four facts about a ListOps expression's root, through a perceptron.

    forward: (b, n) int64, (b, n) bool or None -> (b, classes). The facts: the first token, which is the
    root's operator (or the digit that is the whole expression); the least and the greatest of its
    arguments that are plain digits; how many of its arguments are expressions. No nested expression
    is evaluated. They determine the answer only now and then, as for [MAX with a 9.

    hidden_dim: width of the vector per fact, which are added, and of the hidden layer.
    """

    step: Tensor
    digit: Tensor

    def __init__(self, spec: TaskSpec, *, hidden_dim: int = 32) -> None:
        super().__init__()
        require(hidden_dim >= 1, "hidden_dim", hidden_dim, "at least 1")
        digits = [str(digit) for digit in range(10)]
        missing = [token for token in (*digits, *OPERATORS, CLOSE) if token not in spec.vocabulary]
        if missing or spec.paired:
            what = f"lacks {' '.join(missing)}" if missing else "gives pairs"
            raise UsageError(
                f"root_arguments reads ListOps expressions, and the task {spec.task!r} {what}. "
                "Use it on listops, or another control here."
            )
        step = torch.tensor([(token in OPERATORS) - (token == CLOSE) for token in spec.vocabulary])
        digit = torch.tensor([int(token) if token in digits else -1 for token in spec.vocabulary])
        # Bytes: what is done to them costs the time of this control.
        self.register_buffer("step", step.to(torch.int8), persistent=False)
        self.register_buffer("digit", digit.to(torch.int8), persistent=False)
        sizes = (spec.vocab_size, NO_LITERAL + 1, NO_LITERAL + 1, MOST_NESTED + 1)
        self.tables = nn.ModuleList(nn.Embedding(size, hidden_dim) for size in sizes)
        self.perceptron = nn.Sequential(
            nn.GELU(), nn.Linear(hidden_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, spec.num_classes)
        )
        for table in self.tables.parameters():
            nn.init.normal_(table, std=0.5)  # the sum of four has unit variance

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        facts = self.facts(input_ids, mask).unbind(dim=1)
        vectors = [table(fact) for table, fact in zip(self.tables, facts, strict=True)]  # (b, h) each
        logits: Tensor = self.perceptron(torch.stack(vectors).sum(dim=0))
        return logits

    @torch.no_grad()
    def facts(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, n) -> (b, 4) int64: first token, least and greatest literal of the root, nested arguments."""
        words = input_ids.flatten()
        step = self.step.index_select(0, words).view_as(input_ids)  # (b, n)
        digit = self.digit.index_select(0, words).view_as(input_ids)
        if mask is not None:
            step, digit = step.where(mask, 0), digit.where(mask, -1)
        depth = step.cumsum(dim=1, dtype=torch.int32)  # open brackets after each token
        at_root = depth == 1
        greatest = digit.where(at_root, -1).amax(dim=1)
        least = digit.where(at_root & (digit >= 0), NO_LITERAL).amin(dim=1)
        greatest = greatest.where(greatest >= 0, NO_LITERAL)
        # An argument that is an expression opens the second bracket.
        nested = ((step == 1) & (depth == 2)).sum(dim=1).clamp(max=MOST_NESTED)
        first = first_real_token(input_ids, mask)
        return torch.stack([first, least.long(), greatest.long(), nested], dim=1)
