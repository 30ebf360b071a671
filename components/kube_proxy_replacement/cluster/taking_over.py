"""An adopted release is recorded, upgraded with its owner's values under ours, and given his alone again on `destroy`.

The upgrade is Helm's own program's work: through Pulumi's Release his values would lose their nulls (plugin 4.25 drops
each one in a map), and would stand in the open in its state and in `preview --diff`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import adoption, hand_over, helm_chart, helm_release, nodes, owner, record, rollout, trees
from .api import Api
from .errors import LockError, ProcedureError
from .helm import Helm
from .helm_release import HelmRelease
from .owner import Owner
from .told import OURS, PUT_BACK, Order

Say = Callable[[str], None]

_SOME = 10


def begin(api: Api, order: Order, say: Say) -> None:
    """Before anything else is changed: whose release this is, and his values as they are, recorded and read back."""
    if not order.adopted:
        return
    if owner.read(api) is None:
        its = _from_helm(api, order)
        if its is None:
            raise ProcedureError(
                f"The Helm release {_name(order)} is gone: Helm has no revision of it. Nothing was changed. Run again "
                "when it is installed."
            )
        owner.write(api, its)
        say(
            f"Helm release {its.release} (chart {its.version}, revision {its.revision}): its owner's values are "
            f"recorded in Secret {owner.LOCATION}, and read back"
        )
    kept = record.read(api) or record.Record(cluster=order.cluster, release=_name(order))
    if not kept.adopted:
        record.write(api, replace(kept, adopted=True))


def recover(api: Api, order: Order, say: Say, *, leaves: bool = False) -> None:
    """A release that was left unfinished is recovered, where nobody else is at work on it.

    Args:
        leaves: in `destroy`, where this program gives it its owner's values alone.
    """
    wanted: list[Mapping[str, Any]] = []
    if order.adopted and (kept := owner.read(api)):
        wanted = [trees.merged(kept.values, order.values), *([kept.values] if leaves else [])]
        wanted += rolled_back_to(api, order.namespace, order.release)
    helm_release.recover(api, order.namespace, order.release, say, adopted=order.adopted, wanted=wanted)


def rolled_back_to(api: Api, namespace: str, name: str) -> list[Mapping[str, Any]]:
    """The values to which a run of this program rolls an adopted release back, where its switch-over fails."""
    _, beside = helm_release.newest_and_beside(api, namespace, name)
    return [beside.values] if beside else []


def upgrade(api: Api, order: Order, chart: Path, version: str, say: Say) -> None:
    """Gives the release the chart and the owner's values under ours.

    Args:
        chart: a folder or an archive; version: its version.

    What he has changed since is taken into the record first. Where the newest revision says all of it already (a run
    was killed behind Helm's work), there is none more.
    """
    his, runs = _now(api, order, say)
    values = trees.merged(his.values, order.values)
    description = f"{OURS}{f', repair {order.mark}' if order.mark else ''}"
    if runs and (runs.description, runs.version) == (description, version) and trees.same(runs.values, values):
        say(f"Helm release {_name(order)} is as it is wanted: revision {runs.revision}")
        return
    _helm(api, order, chart, values, description)
    say(f"Helm release {_name(order)}: upgraded (chart {version}), its owner's values are kept")


def put_back(api: Api, order: Order, say: Say) -> None:
    """The owner's values alone, at the version that runs, and agents that run with them; kube-proxy routes by then."""
    recover(api, order, say, leaves=True)
    his, runs = _now(api, order, say)
    if runs is None:
        say(f"Helm release {_name(order)} is gone: there is nothing to put its owner's values back into")
        return
    hand_over.put_away(api, order.namespace)
    # a hand-over that was cut off has changed the agents' template: the release has it as it was
    if hand_over.is_held(api, order.namespace) or not trees.same(runs.values, his.values):
        try:
            with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-") as folder:
                chart = helm_chart.unpack(runs.chart, Path(folder))
                _helm(api, order, chart, his.values, PUT_BACK)
        except LockError:
            raise
        except ProcedureError as error:
            raise ProcedureError(
                f"The Helm release {_name(order)} couldn't be given its owner's values back: {error.what}",
                f"It is still installed, with this program's on top of his; his lie in Secret {owner.LOCATION}. Mend "
                "that, then run the same command again.",
            ) from None
        say(f"Helm release {_name(order)} has its owner's values again, those of revision {his.revision}")
        runs = next(helm_release.newest_first(api, order.namespace, order.release))
    hand_over.let_go(api, order.namespace)
    ready = nodes.read(api).ready
    rollout.wait(api, order.namespace, ready, replacing=runs.replaces, patience=order.timeout, say=say)


def values(api: Api, order: Order, say: Say) -> Mapping[str, Any]:
    """What an upgrade gives the release: the owner's as they are now, and ours over them."""
    return trees.merged(_now(api, order, say)[0].values, order.values)


def _now(api: Api, order: Order, say: Say) -> tuple[Owner, HelmRelease | None]:
    """The owner with all that he has changed up to now, recorded, and the revision that runs."""
    kept = owner.read(api)
    revisions = list(helm_release.newest_first(api, order.namespace, order.release))
    runs = next((its for its in revisions if its.status == "deployed"), None)
    before = kept or adoption.found(_name(order), revisions)
    if before is None:
        raise ProcedureError(
            f"Helm has no revision of the release {_name(order)}, and Secret {owner.LOCATION} isn't there: what its "
            "owner's values were isn't known. The release was not changed."
        )
    now, his = adoption.since(before, revisions, order.values)
    if now != kept:
        owner.write(api, now)
    if his:
        names = ", ".join(".".join(change.path) for change in his[:_SOME])
        say(f"its owner has changed {names}{' …' if len(his) > _SOME else ''} in revision {now.revision}: kept")
    return now, runs


def _from_helm(api: Api, order: Order) -> Owner | None:
    return adoption.found(_name(order), helm_release.newest_first(api, order.namespace, order.release))


def _helm(api: Api, order: Order, chart: Path, values: object, description: str) -> None:
    helm = Helm.find(api.kubeconfig, api.context)
    if api.guard:
        api.guard()  # what Helm does asks nobody
    with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-") as folder:  # its mode is 0700
        file = Path(folder) / "values.yaml"
        file.write_bytes(trees.as_yaml(values))
        helm.upgrade(order.namespace, order.release, chart, file, description=description, timeout=order.timeout)


def _name(order: Order) -> str:
    return f"{order.namespace}/{order.release}"
