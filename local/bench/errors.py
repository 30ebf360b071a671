"""What can go wrong here."""


class BenchError(Exception):
    """Something that was to be measured didn't work; the message says what, with the last lines that it said."""
