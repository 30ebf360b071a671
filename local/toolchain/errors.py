"""What goes wrong in a way that a person can mend."""


class ToolchainError(Exception):
    """A part can't be brought; the message says which, why, and what to do."""
