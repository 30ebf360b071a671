"""What goes wrong in a way that a person can mend."""


class ClusterError(Exception):
    """The cluster can't be started or ended; the message says why."""


class PortTakenError(ClusterError):
    """A port that was free has been taken by another program in the meantime."""
