"""Longformer with one thing wrong."""

from __future__ import annotations

from mutants.fault import Mutant

from lra_bench.mixer import MultiHeadMixer


class WindowOnEachSide(MultiHeadMixer):
    """w tokens on either side for w / 2"""

    def attend(self, query, key, value, mask):
        self.window *= 2
        mixed = super().attend(query, key, value, mask)
        self.window //= 2
        return mixed


class DilationIgnored(MultiHeadMixer):
    """neighbours stand side by side"""

    def attend(self, query, key, value, mask):
        dilation, self.dilation = self.dilation, 1
        mixed = super().attend(query, key, value, mask)
        self.dilation = dilation
        return mixed


class GlobalCountedTwice(MultiHeadMixer):
    """a global token within the window is there as both"""

    def keys_of_blocks(self, x, near=None):
        return super().keys_of_blocks(x)


class GlobalSeenWithinWindowOnly(MultiHeadMixer):
    """global tokens see all, and not all see them"""

    def keys_of_blocks(self, x, near=None):
        return super().keys_of_blocks(x) if near is None else super().keys_of_blocks(x & False, near=x)


class GlobalSeesItsWindow(MultiHeadMixer):
    """all see the global tokens, and they don't see all"""

    def attend_globally(self, query, key, value, mask):
        return self.attend(query, key, value, mask)[:, :, : self.num_global]


class NoGlobalToken(MultiHeadMixer):
    """the window alone, as in the 2020 release"""

    def forward(self, x, mask=None):
        num_global, self.num_global = self.num_global, 0
        mixed = super().forward(x, mask)
        self.num_global = num_global
        return mixed


class GlobalSeesPadding(MultiHeadMixer):
    """no mask for the global tokens' own attention"""

    def attend_globally(self, query, key, value, mask):
        return super().attend_globally(query, key, value, None)


OPTIONS = {"window": 4}

MUTANTS = [
    Mutant(WindowOnEachSide, {"window": 4}),
    Mutant(DilationIgnored, {"window": 4, "dilation": 2}),
    Mutant(GlobalCountedTwice, {"window": 4}),
    Mutant(GlobalSeenWithinWindowOnly, {"window": 4}),
    Mutant(GlobalSeesItsWindow, {"window": 4, "global_projections": False}),
    Mutant(NoGlobalToken, {"window": 4}),
    Mutant(GlobalSeesPadding, {"window": 4}),
]
