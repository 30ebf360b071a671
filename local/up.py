"""`make up`: from nothing to a cluster whose Services Cilium routes."""

import os
from collections.abc import Callable
from typing import Final

from local import clone, summary
from local.cluster import EmbeddedCluster
from local.engine import Engine
from local.toolchain import Toolchain, ensure

Report = Callable[[str], None]

_CHART_SETTING: Final = "chart"
_MODE: Final = "mode"


class SettingError(Exception):
    """A variable of the environment that can't be used."""


def cluster(toolchain: Toolchain) -> EmbeddedCluster:
    """The clone's cluster, as large as NODES says."""
    return EmbeddedCluster(clone.CLUSTER, toolchain, nodes(3, at_most=1000))


def nodes(default: int, at_most: int) -> int:
    """How many NODES says."""
    text = os.environ.get("NODES") or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= at_most:
        raise SettingError(f"NODES={text}: write a number from 1 to {at_most}")
    return int(text)


def run(report: Report) -> None:
    """Everything that isn't there yet, then what the README promises."""
    report("[1/4] The toolchain")
    toolchain = ensure(report=report)
    report("[2/4] The cluster")
    here = cluster(toolchain)
    here.start(report)
    engine = Engine(toolchain, here.kubeconfig)
    _prepare(engine, toolchain, report)
    if clone.SWITCHED.exists():
        report(f"[3/4] pulumi up, mode {_mode(engine)} as it is set")
        engine.must("up", "--yes", "--stack", clone.STACK)
    else:
        report("[3/4] pulumi up, mode coexist: Cilium beside kube-proxy")
        _set(engine, _MODE, "coexist")
        engine.must("up", "--yes", "--stack", clone.STACK)
        report("[3/4] pulumi up, mode replace: kube-proxy goes, Cilium routes Services")
        _set(engine, _MODE, "replace")
        engine.must("up", "--yes", "--stack", clone.STACK)
        clone.SWITCHED.touch()
    report("[4/4] What is there now")
    report(summary.text(engine.read("stack", "output", "--json", "--stack", clone.STACK) or "{}"))
    report(
        "Next: make preview; make outputs; kubectl --kubeconfig $(make -s kubeconfig) get pods -A; make down.\n"
        "And back to kube-proxy:\n"
        '  make pulumi ARGS="config set mode coexist --stack local" && make pulumi ARGS="up --stack local"'
    )


def _prepare(engine: Engine, toolchain: Toolchain, report: Report) -> None:
    if not engine.has_stack():
        # Settings that a stack before this one has left were encrypted with its passphrase.
        clone.STACK_FILE.unlink(missing_ok=True)
        clone.SWITCHED.unlink(missing_ok=True)
        engine.must("stack", "init", clone.STACK)
    engine.release(report)
    _set(engine, _CHART_SETTING, str(toolchain.cilium_chart))


def _set(engine: Engine, key: str, value: str) -> None:
    engine.must("config", "set", key, value, "--stack", clone.STACK)


def _mode(engine: Engine) -> str:
    return (engine.read("config", "get", _MODE, "--stack", clone.STACK) or "").strip()
