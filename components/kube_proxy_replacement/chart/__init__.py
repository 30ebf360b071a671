"""The Helm chart that is to be installed: found, read, and asked what it knows. No Pulumi in here."""

from .conflicts import contradictions
from .errors import ChartError
from .known import KnownValues, UnknownValue
from .loading import load
from .model import Chart
from .sightings import switch

__all__ = ["Chart", "ChartError", "KnownValues", "UnknownValue", "contradictions", "load", "switch"]
