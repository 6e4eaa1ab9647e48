"""How numbers are written, the same in every table."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float) -> str:
    """0.5132 -> '51.3 %'"""
    return f"{100 * share:.1f} %"


def interval(bounds: Sequence[float]) -> str:
    """(0.491, 0.535) -> '49.1 to 53.5'"""
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def binary_bytes(count: float) -> str:
    """157286400 -> '150 MiB'"""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{_three_digits(count)} {unit}"


def si(count: float, unit: str = "") -> str:
    """48.2e9 -> '48.2 G'"""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(count) < 1000 or prefix == "T":
            break
        count /= 1000
    return f"{_three_digits(count)} {prefix}{unit}".rstrip()


def duration(seconds: float) -> str:
    """0.0123 -> '12.3 ms', 75 -> '1 min 15 s'"""
    if seconds < 1e-3:
        return f"{_three_digits(seconds * 1e6)} us"
    if seconds < 1:
        return f"{_three_digits(seconds * 1e3)} ms"
    if seconds < 60:
        return f"{_three_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def tuning_label(trials: int) -> str:
    """8 -> 'tuned (8 trials)'; empty where nothing was tried."""
    return f"tuned ({trials} trial{'s' if trials > 1 else ''})" if trials else ""


def roughly(seconds: float) -> str:
    """An estimate, not a measurement: 43.7 -> 'about 45 s', 4000 -> 'about 1 h 5 min'"""
    step = 1 if seconds < 20 else 5 if seconds < 120 else 60 if seconds < 3600 else 300
    rounded = max(step, step * round(seconds / step))
    return f"about {rounded} s" if rounded < 60 else f"about {duration(rounded)}".removesuffix(" 0 s")


def _three_digits(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"
