"""What a comparison says, and the bounds it works under."""

from __future__ import annotations

from dataclasses import dataclass

# The names of the tiers, in the order in which they are tried.
TEXT = "text"
EXACT = "exact"
INTERVAL = "interval"
STRUCTURE = "structure"
IDENTITY = "identity"
ALGEBRA = "algebra"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one comparison.

    Attributes:
        equal: True or False where it is settled, None where it is not (undecided).
        tier: the tier that settled it (`text`, `exact`, `interval`, `structure`, `identity`,
            `algebra`), or `none` where none did.
        reason: one short sentence, empty where the tier says it all.
        error_bound: an upper bound on the probability that `equal=True` is wrong; 0 where it is
            proved. It says nothing about `equal=False`.
        needs_algebra: undecided only because the symbolic tier was not allowed here: the same
            comparison may be settled by a worker with `Limits(algebra=True)`.
    """

    equal: bool | None
    tier: str
    reason: str = ""
    error_bound: float = 0.0
    needs_algebra: bool = False

    @classmethod
    def undecided(cls, reason: str, *, needs_algebra: bool = False) -> Result:
        """Nothing settled it."""
        return cls(None, NONE, reason, 0.0, needs_algebra)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one comparison. The defaults keep a comparison within a few milliseconds.

    Attributes:
        max_exact_bits: the largest integer, in bits, that is built in exact arithmetic.
        max_precision: the highest precision of interval arithmetic, in bits.
        max_terms: the most terms of a finite sum or product that are added up.
        sample_points: the number of points at which free variables are sampled.
        algebra: whether the symbolic tier (sympy: slow, unbounded) may be used; set it only in a
            process that can be killed.
        algebra_seconds: the time that the symbolic tier gives itself, where it can.
    """

    max_exact_bits: int = 20_000
    max_precision: int = 4096
    max_terms: int = 2000
    sample_points: int = 8
    algebra: bool = False
    algebra_seconds: float = 3.0


DEFAULT_LIMITS = Limits()
