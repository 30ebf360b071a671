"""Step 1 for a Cilium that its owner's Helm runs: what he has set, what becomes of it, and what says no."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import chart
from .chart import Chart
from .cluster import adoption, helm_release, owner, trees
from .cluster.api import Api
from .cluster.errors import ApiError, ProcedureError
from .cluster.helm import Helm
from .cluster.helm_release import HelmRelease
from .cluster.owner import Owner
from .cluster.record import Record
from .cluster.trees import ABSENT, Change
from .settings import Settings

_SOME = 20

_SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|credential|private|(^|[^a-z])(key|cert|crt|ca|pem|auth)s?$|keys?$", re.I
)
_LOOKS_SECRET = re.compile(r"-----BEGIN|[A-Za-z0-9+/_-]{40,}={0,2}$")


@dataclass(frozen=True)
class Adopted:
    """An adopted release.

    Attributes:
        owner: what its owner has set, up to now.
        his: what he has changed since that was last recorded.
        runs: the revision that runs.
        new: it isn't recorded yet; lost: it was, and the Secret was deleted.
    """

    owner: Owner
    his: list[Change]
    runs: HelmRelease
    new: bool = False
    lost: bool = False


def find(
    api: Api,
    settings: Settings,
    before: Mapping[str, Any],
    kept: Record | None,
    ours: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Adopted | None:
    """The adopted release, None where the release is this program's own, or there is none yet.

    Whose it is, is decided once, before the first change: the state and the cluster's record remember it. So an
    install of ours that was cut off is never taken for the owner's.

    Args:
        before: what the last run recorded; kept: the cluster's record.
        ours: what is set on top of an owner's values.
    Raises ProcedureError where a release that was taken over is gone.
    """
    name = f"{settings.namespace}/{settings.release_name}"
    if before:
        adopted = bool(before.get("adopted"))
    elif kept is not None:
        adopted = kept.adopted and kept.release == name
    else:
        adopted = True
    if not adopted:
        return None
    revisions = list(helm_release.newest_first(api, settings.namespace, settings.release_name))
    runs = next((its for its in revisions if its.status == "deployed"), revisions[0] if revisions else None)
    recorded = _recorded(api) if before or kept is not None else None
    if recorded and recorded.release != name:
        raise ProcedureError(
            f"namespace, releaseName: this program has taken over the Helm release {recorded.release} on this cluster, "
            f"and {name} is another one. Nothing was changed. Write {recorded.release}'s, or `pulumi destroy` first, "
            "which gives its owner his values back."
        )
    its = recorded or adoption.found(name, revisions)
    if runs is None or its is None:
        if not before and kept is None:
            return None
        raise ProcedureError(
            f"The Helm release {name}, which was taken over, is gone: Helm has no revision of it. Nothing was changed. "
            f"Install it again with its owner's values (Secret {owner.LOCATION} has them), then run again."
        )
    its, his = adoption.since(its, revisions, ours(its.values))
    known = bool(before) or kept is not None
    return Adopted(its, his if recorded else [], runs, new=not known, lost=known and recorded is None)


def _recorded(api: Api) -> Owner | None:
    try:
        return owner.read(api)
    except ApiError as error:
        if error.status != 403:
            raise
        raise ProcedureError(
            f"The values of the release's owner lie in Secret {owner.LOCATION}, and these credentials may not get it. "
            "Nothing was changed. Have them given that right."
        ) from None


def demand_version(adopted: Adopted, its_chart: Chart) -> None:
    """Raises ProcedureError for a step that Cilium doesn't support: any down, or more than one minor version up."""
    runs, wanted = chart.order(adopted.runs.version), chart.order(its_chart.version)
    if runs is None or wanted is None:
        return
    down, far = wanted < runs, wanted[0] != runs[0] or wanted[1] > runs[1] + 1
    if not (down or far):
        return
    raise ProcedureError(
        f"ciliumVersion: the release runs {adopted.runs.version}, and {its_chart.version} is "
        f"{'a step down' if down else 'more than one minor version up'}. Nothing was changed. Leave ciliumVersion out, "
        "which keeps the version that runs, or go up one minor version at a time, as Cilium's upgrade guide says."
    )


def demand_helm() -> None:
    """Raises ProcedureError where Helm's program, which does the upgrade, isn't there."""
    try:
        Helm.find()
    except ProcedureError as error:
        raise ProcedureError(
            f"{error} It upgrades a release that was taken over, so that none of its owner's values is lost. "
            "Nothing was changed."
        ) from None


def contradictions(
    adopted: Adopted, ours: Mapping[str, Any], settings: Settings, its_chart: Chart, host: str, port: int
) -> list[str]:
    """What of the owner's stands against the mode when ours are on top."""
    told = {
        "base": its_chart.values,
        "version": its_chart.version,
        "api_server_host": host,
        "api_server_port": port,
        "load_balancer": settings.load_balancer,
        "namespace": settings.namespace,
    }
    found = chart.contradictions(trees.merged(adopted.owner.values, ours), settings.mode, **told)  # type: ignore[arg-type]
    return [f"its owner's {its} Nothing was changed. The setting values lies on top of his." for its in found]


def notes(
    adopted: Adopted, wanted: Mapping[str, Any], its_chart: Chart, *, told: bool, mode_changes: bool
) -> list[str]:
    """What a reviewer is told.

    Args:
        wanted: the owner's values with ours on top.
        told: whether what will happen is told at all: not where all is as it was.
        mode_changes: the mode changes in the same run.
    """
    said = list(_his(adopted))
    if adopted.lost:
        said.append(
            f"Secret {owner.LOCATION} with the owner's values was deleted: it is made anew from revision "
            f"{adopted.owner.revision}, the newest of his that Helm still has from before this program's"
        )
    if not told:
        return said
    release = f"Helm release {adopted.owner.release} (chart {adopted.runs.version}, revision {adopted.runs.revision})"
    changes = [its for its in trees.changes(adopted.runs.values, wanted) if not _means_the_same(its, its_chart)]
    if adopted.new:
        said.append(
            f"{release} is its owner's and is taken over: his {len(list(trees.leaves(adopted.owner.values)))} values "
            f"are recorded in Secret {owner.LOCATION} and kept; destroy leaves the release there, with them alone"
        )
    if changes:
        said.append(f"{release}: {len(changes)} values change:")
        said += [f"  {line}" for line in _lines(changes, its_chart)]
    if not chart.same_version(its_chart.version, adopted.runs.version):
        said.append(
            f"the chart goes from {adopted.runs.version} to {its_chart.version}"
            + (
                ": a change of version and of mode in one run; in two, what goes wrong has one cause"
                if mode_changes
                else ""
            )
        )
    unknown = chart.KnownValues(its_chart).unknown(adopted.owner.values)
    if unknown:
        names = ", ".join(its.name for its in unknown[:5])
        said.append(
            f"the chart {its_chart.title} knows nothing of {len(unknown)} of the owner's values "
            f"({names}{' …' if len(unknown) > 5 else ''}): nothing comes of them; they are kept"
        )
    return said


def _his(adopted: Adopted) -> Iterator[str]:
    if adopted.his:
        yield (
            f"its owner has changed {len(adopted.his)} values in revision {adopted.runs.revision} of Helm release "
            f"{adopted.owner.release}: they are kept, and recorded as his:"
        )
        yield from (f"  {line}" for line in _lines(adopted.his, None))


def _lines(changes: Sequence[Change], its_chart: Chart | None) -> Iterator[str]:
    for its in changes[:_SOME]:
        before = _value(its.path, its.before)
        if its.before is ABSENT and its_chart is not None:
            default = trees.at(its_chart.values, its.path)
            before = "not set" + (
                "" if default in (ABSENT, None, "") else f" (the chart's {_value(its.path, default)})"
            )
        yield f"{_dotted(its.path)}: {before} → {_value(its.path, its.after)}"
    if len(changes) > _SOME:
        yield f"… and {len(changes) - _SOME} more"


def _means_the_same(change: Change, its_chart: Chart) -> bool:
    """False for "false", and the chart's own default said: nothing a reviewer has to look at."""
    before = trees.at(its_chart.values, change.path) if change.before is ABSENT else change.before
    return before is not ABSENT and str(before).lower() == str(change.after).lower()


def _value(path: Iterable[str], value: Any) -> str:
    if value is ABSENT:
        return "not set"
    if looks_secret(path, value):
        return "(not shown)"
    return chart.literal(value)


def looks_secret(path: Iterable[str], value: Any) -> bool:
    """Whether a value is better not shown: by the name it stands under, or by what it looks like."""
    if value in (None, "", True, False) or isinstance(value, (int, float)):
        return False
    if any(_SECRET.search(re.sub(r"([a-z])([A-Z])", r"\1_\2", name)) for name in path):
        return True
    if isinstance(value, Mapping):
        return any(looks_secret((name,), inner) for name, inner in value.items())
    if isinstance(value, list):
        return any(looks_secret((), inner) for inner in value)
    return bool(_LOOKS_SECRET.search(str(value)))


def _dotted(path: Sequence[str]) -> str:
    return chart.dotted(tuple(path))


def address(adopted: Adopted) -> tuple[str, int] | None:
    """Where the owner's own values send the agents for the API server, which they reach there; None where nowhere."""
    host, port = (trees.at(adopted.owner.values, (key,)) for key in ("k8sServiceHost", "k8sServicePort"))
    if not isinstance(host, str) or host in ("", "auto") or not str(port).isdigit():
        return None
    return host, int(port)
