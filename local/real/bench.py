"""``python -m local.real.bench``: this program, by either strategy, beside the manual way, on real nodes, in one run.

Each way begins on the same ground, made anew: Cilium beside kube-proxy, pods on Cilium's network, somebody else's rules
on every node. The full traffic goes through it all. Everything that was seen is in .local/real/ways/TIME. The last line
says whether the bounds held. Exit status 0 where all held, 1 where one didn't, 2 where it couldn't be measured.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from local import clone, up
from local.cluster import ClusterError
from local.real import agents, foreign, manual, table, turns, workload
from local.real.cluster import PARTS, RealCluster
from local.real.engine import RealEngine
from local.real.figures import BACK, THERE, Figures
from local.real.manual import Manual
from local.real.program import Program
from local.real.traffic import Traffic
from local.real.way import CALM, Held, Way
from local.toolchain import Toolchain, ToolchainError, ensure, versions

_MODES: Final = {THERE: "True", BACK: "False"}
# A way takes two minutes; senders end by themselves after this.
_SECONDS: Final = 900.0

_BY_NODE: Final = "node-by-node"
_OURS: Final = (_BY_NODE, "all-at-once")
"""This program's ways, by the setting `strategy`."""
_MANUAL: Final = "manual way"

Legs = dict[str, Figures]


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m local.real.bench", description=__doc__)
    parser.add_argument("--only", choices=(*_OURS, "manual"), help="one of the three ways")
    told = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # senders are ended then, too
    folder = clone.REAL / "ways" / time.strftime("%Y%m%d-%H%M%S")
    try:
        toolchain = ensure(PARTS, _say)
        cluster = RealCluster(clone.REAL, toolchain, up.nodes(2, at_most=100))
        began = time.monotonic()
        ours = [way for way in _OURS if told.only in (None, way)]
        found: dict[str, Legs] = {}
        faults: dict[str, list[str]] = {}
        for way in ours:
            found[way], faults[way] = _program(cluster, toolchain, folder / way, way)
        if told.only in (None, "manual"):
            found[_MANUAL] = _manual(cluster, toolchain, toolchain.helm, folder / "manual")
        its_manual = found.get(_MANUAL, {})
        verdict = table.together(
            {way: table.verdict(found[way], its_manual, faults[way], one_by_one=way == _BY_NODE) for way in ours}
        )
        lines = [
            "",
            table.text(found),
            "",
            *(f"explained: {line}" for line in verdict.explained),
            *(f"not explained: {line}" for line in verdict.unexplained),
            _ground(cluster, time.monotonic() - began),
            f"Everything that was seen: {folder}",
            verdict.line,
        ]
    except (ClusterError, ToolchainError, up.SettingError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The cluster still runs: `make down-real` ends it.", file=sys.stderr)
        return 130
    text = "\n".join(lines)
    (folder / "table.txt").write_text(text + "\n")
    print(text)
    return 1 if verdict.broken else 0


def _program(cluster: RealCluster, toolchain: Toolchain, folder: Path, strategy: str) -> tuple[Legs, list[str]]:
    """By `pulumi up` with this strategy; the figures, and the steps that didn't end as they must."""
    _anew(cluster)
    way = Way(cluster, folder, _say)
    engine = RealEngine(cluster, toolchain, folder)
    engine.prepare(strategy)
    program = Program(way, engine)
    legs: Legs = {}
    if not program.up("coexist").code:
        workload.renew_pods(cluster)
        with _sending(way) as measure:
            program.unchanged()
            with way.leg(THERE):
                went = program.up("replace")
                way.calm()
            program.unchanged()
            if not went.code:
                with way.leg(BACK):
                    program.up("coexist")
                    way.calm()
                program.unchanged()
            legs = measure()
        program.destroy()
    return legs, [f"{step.name}: exit {step.code}" for step in way.failed]


def _manual(cluster: RealCluster, toolchain: Toolchain, helm: Path, folder: Path) -> Legs:
    """By Cilium's documentation."""
    _anew(cluster)
    way = Way(cluster, folder, _say)
    person = Manual(way, cluster, toolchain, helm)
    if not person.run(manual.INSTALL):
        raise RuntimeError(f"Cilium couldn't be installed by hand; logs are in {folder}")
    workload.renew_pods(cluster)
    with _sending(way) as measure:
        person.run(manual.SAVE)
        with way.leg(THERE):
            person.run(manual.THERE)
            way.calm()
        with way.leg(BACK):
            person.run(manual.BACK)
            way.calm()
        return measure()


def _anew(cluster: RealCluster) -> None:
    cluster.stop(_say)
    cluster.start(_say)
    workload.deploy(cluster, _say)
    for node in cluster.nodes:
        foreign.plant(node)


@contextmanager
def _sending(way: Way) -> Iterator[Callable[[], Legs]]:
    """The full traffic, and a watch on the agents; what it gives reads the figures of the legs taken so far."""
    traffic = Traffic(way.cluster, way.folder / "traffic", _SECONDS)
    watch = agents.Watch(way.cluster.nodes, way.folder / "agents.txt")
    labels = turns.Watch(way.cluster, way.folder / "turns.txt")
    watch.start()
    labels.start()
    try:
        _say("traffic …")
        traffic.start("host", "pod")
        way.calm()
        yield lambda: {leg: _figures(way, leg, traffic, watch, labels) for leg in _MODES if way.of(leg)}
        _record(way, traffic)
    finally:
        traffic.stop()
        labels.stop()
        watch.stop()


def _figures(way: Way, leg: str, traffic: Traffic, watch: agents.Watch, labels: turns.Watch) -> Figures:
    steps = way.of(leg)
    start, end = steps[0].start, steps[-1].end
    held, before = steps[-1].held, way.before(leg).held
    settled = agents.settled(watch.changes(), _MODES[leg], start, end)
    return Figures(
        start=start,
        seconds=max(step.end for step in steps if step.name != CALM) - start,
        settled=settled,
        outcomes=traffic.outcomes(start, end, leg),
        rules={node: len(its.rules) for node, its in held.items()},
        lost={node: _changed(before[node], its) for node, its in held.items()},
        turns={
            node: turns.Turn(instant, start + (settled.get(node) or 0.0))
            for node, instant in labels.labelled(start, end).items()
        },
    )


def _changed(before: Held, after: Held) -> int:
    """How many lines of somebody else's rules are gone, or another than they were."""
    return (Counter(before.foreign.splitlines()) - Counter(after.foreign.splitlines())).total()


def _record(way: Way, traffic: Traffic) -> None:
    """Every failure with the step that ran at its instant, a line of JSON each."""
    found = traffic.outcomes(way.steps[0].start, way.steps[-1].end)
    every = [*found.failures]
    every += [failure for its in found.health.values() for failure in its.failures]
    every += [failure for its in found.control.values() for failure in its.failures]
    with (way.folder / "failures.jsonl").open("w") as file:
        for failure in sorted(every, key=lambda its: its.instant):
            file.write(json.dumps(asdict(failure) | {"step": way.at(failure.instant)}) + "\n")


def _ground(cluster: RealCluster, seconds: float) -> str:
    load, cores = os.getloadavg()[1], os.cpu_count() or 1
    return (
        f"{len(cluster.nodes)} nodes in namespaces of one machine: {cores} processors, kernel {platform.release()}, "
        f"Kubernetes {versions.KUBERNETES}, Cilium {versions.CILIUM}; a load of {load:.1f}; {seconds:.0f} s in all"
    )


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
