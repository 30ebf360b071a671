"""The errors that a person reads: what is wrong, on what, and what to do."""

from __future__ import annotations

from collections.abc import Mapping


class ProcedureError(Exception):
    """A step could not be done. Its text is shown to the user as it is, without a traceback.

    The text names what is wrong, on which node or object, what has and hasn't been changed,
    and what to do.

    Attributes:
        what: what is wrong, without what is left then and what to do about it.
    """

    def __init__(self, what: str, left: str = "") -> None:
        super().__init__(f"{what}\n{left}" if left else what)
        self.what = what


class ApiError(ProcedureError):
    """The API server answered a request with an error.

    Attributes:
        status: the HTTP status, as an int.
        reason: Kubernetes' machine-readable reason («NotFound», «Forbidden», …), or "".
        causes: what the answer's `details.causes` say, by their machine-readable reasons («DisruptionBudget», …).
    """

    def __init__(self, text: str, *, status: int, reason: str, causes: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.causes = dict(causes or {})


class UnreachableError(ProcedureError):
    """No answer from the API server: no connection, no TLS, or a deadline that passed."""


class KubeconfigError(ProcedureError):
    """The kubeconfig or the context doesn't exist, can't be read, or makes no sense."""


class LockError(ProcedureError):
    """Another run holds the lock on the cluster, or this one has lost it: nothing more is changed, or rolled back."""
