"""What was measured, and whether it is within its bound."""

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Series:
    """One thing's times, in seconds, in the order of the rounds."""

    title: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.seconds)

    def __str__(self) -> str:
        """`the title      12.3 s  (12.1 12.3 14.0)`."""
        return f"{self.title:<66} {self.median:7.2f} s  ({' '.join(f'{its:.2f}' for its in self.seconds)})"


@dataclass(frozen=True)
class Ratio:
    """One series beside another.

    Attributes:
        title: what is compared, for the last line too.
        ours: what is judged; other: what it is set beside.
        bound: the medians' ratio may be this at most; None where there is no bound.
        where: on what the last time of ours was spent, most of all.
    """

    title: str
    ours: Series
    other: Series
    bound: float | None
    where: str = ""

    @property
    def value(self) -> float:
        return self.ours.median / self.other.median

    @property
    def held(self) -> bool:
        return self.bound is None or self.value <= self.bound

    def __str__(self) -> str:
        """`the title   1.23  (1.20 1.23 1.31)   at most 1.5: held`; in brackets each round by itself."""
        rounds = " ".join(
            f"{ours / other:.2f}" for ours, other in zip(self.ours.seconds, self.other.seconds, strict=True)
        )
        verdict = "no bound" if self.bound is None else f"at most {self.bound}: {'held' if self.held else 'NOT HELD'}"
        return f"{self.title:<66} {self.value:7.2f}    ({rounds})  {verdict}"
