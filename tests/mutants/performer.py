"""Performer with one thing wrong."""

from __future__ import annotations

from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class NormaliserCountsPads(MultiHeadMixer):
    """values are masked but the normaliser is not"""

    def attend(self, query, key, value, mask):
        if mask is not None:
            value = value.masked_fill(~mask[:, None, :, None], 0)
        return super().attend(query, key, value, None)


class NoHalfSquare(MultiHeadMixer):
    """exp(w x) without -|x|^2 / 2"""

    def log_features(self, x):
        return self.projected(x)


class WholeScaleOnEachSide(MultiHeadMixer):
    """1 / sqrt(e) for query and key each"""

    def projected(self, x):
        return super().projected(x) * self.head_dim**-0.25


class ReluFeatures(MultiHeadMixer):
    """the 2020 release's ReLU features in place of the exponential ones"""

    def projected(self, x):
        return super().projected(x).relu().add(1e-3).log()

    def log_features(self, x):
        return self.projected(x)


class StabiliserSeesPads(MultiHeadMixer):
    """the maximum over keys includes padded ones, and shifts the features against eps"""

    def attend(self, query, key, value, mask):
        query_logs, key_logs = self.projected(query), self.log_features(key)
        query_features = (query_logs - query_logs.amax(-1, keepdim=True)).exp() + self.eps
        key_features = (key_logs - key_logs.amax((-2, -1), keepdim=True)).exp() + self.eps
        if mask is not None:
            key_features = key_features * mask[:, None, :, None]
        kernel = query_features @ key_features.transpose(-2, -1)
        return kernel @ value / kernel.sum(-1, keepdim=True)


OPTIONS = {"num_features": 16}

MUTANTS = [
    Mutant(NormaliserCountsPads, {"num_features": 16}),
    Mutant(NoHalfSquare, {"num_features": 16}),
    Mutant(WholeScaleOnEachSide, {"num_features": 16}),
    Mutant(ReluFeatures, {"num_features": 16}),
    Mutant(StabiliserSeesPads, {"num_features": 16, "eps": 0.1}),
]
