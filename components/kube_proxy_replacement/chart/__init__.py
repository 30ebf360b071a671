"""The Helm chart that is to be installed: found, read, and asked what it knows. No Pulumi in here."""

from .conflicts import contradictions
from .errors import ChartError
from .known import KnownValues, UnknownValue, dotted
from .loading import fetch, is_local, load
from .model import Chart
from .rules import literal
from .sightings import switch, truth
from .versions import order
from .versions import same as same_version

__all__ = [
    "Chart",
    "ChartError",
    "KnownValues",
    "UnknownValue",
    "contradictions",
    "dotted",
    "fetch",
    "is_local",
    "literal",
    "load",
    "order",
    "same_version",
    "switch",
    "truth",
]
