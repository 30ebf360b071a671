"""What can go wrong here."""


class ChaosError(Exception):
    """Something that was only to prepare or to look at a run didn't work; the message says what."""
