"""The checks whose «no» is a judgement: a person who knows better goes on, by name (setting `skipChecks`).

Only those are here. A check that keeps Services for certain has no name: nothing skips it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .errors import ProcedureError

NAMES = ("managed-by", "distribution", "other-network")
"""managed-by: a controller owns kube-proxy or Cilium and may put back what is changed.
distribution: kube-proxy is the distribution's own.
other-network: another CNI serves the pods.
"""

_UNCHANGED = "Nothing was changed."


@dataclass(frozen=True)
class Refusal:
    """Why a run isn't begun.

    Attributes:
        reason: what is wrong, on which object, and what to do.
        check: its name in `skipChecks`; "" where nothing skips it.
    """

    reason: str
    check: str = ""


def demand(refusal: Refusal | None, skipped: Collection[str]) -> str:
    """What a preview tells of a check that is skipped, "" where there is nothing to tell.

    Raises ProcedureError where it isn't skipped, with the name to write.
    """
    if refusal is None:
        return ""
    if refusal.check and refusal.check in skipped:
        return f"skipChecks, {refusal.check}: {refusal.reason.replace(f' {_UNCHANGED}', '')}"
    said = refusal.reason if _UNCHANGED in refusal.reason else f"{refusal.reason} {_UNCHANGED}"
    ending = f" Where that is seen to, write {refusal.check} into skipChecks." if refusal.check else ""
    raise ProcedureError(said + ending)
