"""What the dynamic provider `FoundProvider` does."""

from __future__ import annotations

import gc
import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, UpdateResult
from pulumi.output import Unknown

from . import hiding, looking
from .chart import ChartError
from .cluster import helm_release, identity, kube_proxy, kubeadm, lease, nodes, order, record, renewing
from .cluster.api import Api
from .cluster.errors import ProcedureError
from .cluster.told import Order
from .settings import NAMES, SettingsError, parse

_ASIDE = ("preview", "veiled")
"""What the program tells `check` alone: whether this is a preview, and whether the setting `values` is secret."""

_TOLD = ("notes", "findings", "plan", "restart", "server", "backedUp", "uninstalled", *_ASIDE)
"""Told to the reviewer or to a repair; by themselves no change. What is wrong changes the mark."""

_PATIENCE = 60.0
"""Seconds, as in `run`: an API server that restarts is away that long."""

_NOT_LOOKED = (
    "the cluster was not looked at: {} isn't known before the run itself has made it. `up` looks then, renders the "
    "chart, and refuses what must be refused, before it changes anything of the network"
)

_REFRESHED = "refreshedWithoutRelease"
"""In the outputs: the last refresh saw no release, so the state has none. The next change takes it away again."""

_READINGS = ("unreadable",)
"""A change of it renews the readings alone: nothing is done to the cluster, under no new run."""


def check(before: dict[str, Any], inputs: dict[str, Any]) -> CheckResult:
    """Looks, and returns the inputs with what was found; or why not.

    A failure names no property: Pulumi would show its value.
    """
    settings = {name: inputs[name] for name in NAMES if inputs.get(name) is not None}
    if _has_unknown(settings):
        # the cluster itself is part of this run: what can't be known yet is looked at by the run
        if inputs.get("preview"):
            unknown = ", ".join(name for name, value in settings.items() if _has_unknown(value))
            print(_NOT_LOOKED.format(unknown), flush=True)
        return CheckResult({key: value for key, value in inputs.items() if key not in _ASIDE}, [])
    veiled = settings.get("values") if inputs.get("veiled") else None
    try:
        found = looking.look(settings, before, Path.cwd(), preview=bool(inputs.get("preview")))
    except SettingsError as error:
        return CheckResult(inputs, [CheckFailure("", hiding.hidden(reason, veiled)) for reason in error.reasons])
    except (ProcedureError, ChartError) as error:
        return CheckResult(inputs, [CheckFailure("", hiding.hidden(str(error), veiled))])
    said = [[hiding.hidden(text, veiled) for text in texts] for texts in (found.notes, found.findings)]
    found = replace(found, notes=said[0], findings=said[1])
    now = {**settings, **found.as_inputs()}
    same = not found.superseded and not _changes(before, now, (*_TOLD, *_READINGS, "run"))
    # a run that changes nothing is none: what was recorded of the last one stays, in the Commands too
    now["run"] = before["run"] if same and before.get("run") else inputs.get("run")
    if inputs.get("preview") and not _changes(before, now, _TOLD):
        for note in found.notes:
            # an unchanged resource keeps its outputs, and the program would never see it; the engine shows these lines
            print(note, flush=True)
    return CheckResult(now, [])


def diff(before: Mapping[str, Any], now: Mapping[str, Any]) -> DiffResult:
    """Nothing changes while the settings, the address and the mark are the same.

    Raises ProcedureError where Helm's release is gone, and no refresh has taken it out of the state.
    """
    if now.get("uninstalled") and not before.get(_REFRESHED):
        raise ProcedureError(now["uninstalled"])
    return DiffResult(changes=_changes(before, now, _TOLD))


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], aside: Collection[str]) -> bool:
    keys = [key for key in now if key not in aside and not key.startswith("__")]
    gone = [key for key in NAMES if key in before and key not in now and before[key] is not None]
    return bool(gone) or any(before.get(key) != now[key] for key in keys)


def read(id_: str, state: dict[str, Any]) -> ReadResult:
    """For `pulumi refresh`: refuses another cluster, where the Release would be taken for gone."""
    api = Api.connect(state.get("kubeconfig"), state.get("kubeContext"))
    looking.confirm(api, identity.cluster_uid(api), state)
    release = (state.get("namespace") or "kube-system", state.get("releaseName") or "cilium")
    state.pop(_REFRESHED, None)
    if not helm_release.exists(api, *release):
        state[_REFRESHED] = True
    return ReadResult(id_, state)


def create(inputs: dict[str, Any]) -> CreateResult:
    return CreateResult(id_=f"found-{uuid.uuid4().hex[:12]}", outs=_outs(inputs, _locked(inputs, None)))


def update(before: Mapping[str, Any], inputs: dict[str, Any]) -> UpdateResult:
    kept = before.get("backup")
    return UpdateResult(outs=_outs(inputs, kept if inputs["run"] == before.get("run") else _locked(inputs, kept)))


def delete(state: Mapping[str, Any]) -> None:
    """The last of `destroy`: whatever runs of this stack have done is undone.

    Most often the Commands have, which are deleted before. But one that was killed in its first run isn't in the state,
    though it may have removed kube-proxy; this resource is there before anything changes.
    """
    api = Api.connect(state.get("kubeconfig"), state.get("kubeContext"), patience=_PATIENCE)
    looking.confirm(api, identity.cluster_uid(api), state)
    kept = record.read(api)
    backed_up = bool(state.get("backup")) and json.loads(state["backup"])["daemonset"] is not None
    if kept is None and (not backed_up or kube_proxy.find(api).daemonset is not None):
        lease.forget(api, state.get("run") or "")  # of a run that was killed before it had changed anything
        return
    settings = parse({name: state[name] for name in NAMES if state.get(name) is not None})
    told = Order(
        cluster=state["cluster"],
        server=state["server"],
        mode=settings.mode,
        namespace=settings.namespace,
        release=settings.release_name,
        host=state["apiServer"]["host"],
        port=int(state["apiServer"]["port"]),
        image=state["image"],
        timeout=settings.timeout_seconds,
        adopted=bool(state.get("adopted")),
        values=state.get("own") or {},
    )
    with renewing.step(api, state.get("run") or "", deletes=True, last=True, say=_unheard):
        if kept is None:
            _backup(api, state, state["backup"])
        order.forgotten(api, told, _unheard)


def _unheard(_: str) -> None:
    """A dynamic provider has nobody to tell what it does."""


def _outs(inputs: dict[str, Any], backup: Any) -> dict[str, Any]:
    """The notes and the plan have been told."""
    return {**inputs, "notes": [], "findings": [], "plan": {}, "backup": backup}


def _locked(inputs: Mapping[str, Any], backup: Any) -> str:
    """The lock on the cluster taken for this run, before it changes anything; and the new copy of the backup."""
    api = Api.connect(inputs.get("kubeconfig"), inputs.get("kubeContext"))
    with renewing.taken(api, inputs["run"]):
        return _backup(api, inputs, backup)


def _backup(api: Api, inputs: Mapping[str, Any], backup: Any) -> str:
    """The state's own copy of the backup is made here, before anything is removed.

    Where the copy in the cluster was deleted, it comes back from the state's.
    """
    live, kept = kube_proxy.find(api), record.read(api)
    if kept is None and backup:
        release = f"{inputs.get('namespace') or 'kube-system'}/{inputs.get('releaseName') or 'cilium'}"
        # which nodes had been cleaned is lost with it: all are cleaned once more
        uncleaned = frozenset(node.uid for node in nodes.read(api).all)
        copy = {key: value for key, value in json.loads(backup).items() if key in ("daemonset", "configmap", "kubeadm")}
        kept = record.write(
            api,
            record.Record(
                cluster=inputs["cluster"],
                release=release,
                uncleaned=uncleaned,
                adopted=bool(inputs.get("adopted")),
                **copy,
            ),
        )
    copy = {
        "daemonset": record.bare(live.daemonset) if live.daemonset else kept and kept.daemonset,
        "configmap": record.bare(live.configmap) if live.configmap else kept and kept.configmap,
        "kubeadm": (kept and kept.kubeadm) or _kubeadm_change(api, inputs["mode"], live.daemonset is not None),
    }
    # as text: Pulumi's state has no integers, and a DaemonSet with a port 10256.0 can't be created
    return json.dumps(copy, sort_keys=True)


def _kubeadm_change(api: Api, mode: str, present: bool) -> dict[str, str] | None:
    """What this run's switch-over is about to write into kubeadm-config, and to the record after this copy was made."""
    before = kubeadm.text(api) if mode == "replace" and present else None
    if before is None or kubeadm.disabled(before):
        return None
    return {"before": before, "after": kubeadm.with_disabled(before, True)}


def _has_unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_unknown, value.values()))
    if isinstance(value, list):
        return any(map(_has_unknown, value))
    return isinstance(value, Unknown)


# This module is loaded in the dynamic provider's process alone, and the engine waits for its end: without this, Python
# first collects all that was imported, for a tenth of a second and more.
gc.freeze()
