"""The policy pack, run by the real engine: on what the program declares, and on the same with everything broken.

For a release of the program's own, and for an adopted one, which is a Command; then an `up` is stopped. The owner of
the cluster configures one policy: this stack is production.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from local.toolchain import Toolchain
from tests.engine.conftest import NewStack
from tests.engine.harness import (
    AGENTS,
    CILIUM,
    CONFIGMAP,
    DAEMONSET,
    FOUND,
    HAND_OVER,
    REPOSITORY,
    Cluster,
    Run,
    changes_by_person,
    copy_program,
)

WAY_BACK = "kube-proxy-replacement-way-back"
COMMANDS = {HAND_OVER, DAEMONSET, CONFIGMAP, WAY_BACK, AGENTS}
VERSION = "1.18.6"

PROGRAM = """
    import json
    import os

    import pulumi
    from kube_proxy_replacement import KubeProxyReplacement, command, release
    from kube_proxy_replacement.config import arguments

    NAME = "kube-proxy-replacement"
    BROKEN = os.environ.get("BROKEN")
    HOST = {"k8sServiceHost": "10.96.0.1"}
    ON_TOP = "KUBE_PROXY_REPLACEMENT_VALUES"


    def with_host(environment):
        return {**environment, ON_TOP: json.dumps({**json.loads(environment[ON_TOP]), **HOST})}


    def changed(args):
        props = dict(args.props)
        if args.type_ == "command:local:Command":
            props["triggers"] = ["another one each day"]
        if args.name == f"{NAME}-cilium":
            key, change = ("values", lambda its: {**its, **HOST}) if "values" in props else ("environment", with_host)
            props[key] = pulumi.Output.from_input(props[key]).apply(change)
        return pulumi.ResourceTransformResult(props, args.opts)


    def unordered(declare):
        def declared(*arguments, **named):
            return declare(*arguments, **named | ({"depends_on": []} if f"{NAME}-cilium" in arguments else {}))

        return declared


    if BROKEN:
        pulumi.runtime.register_resource_transform(changed)
    if BROKEN == "order too":
        # a transform can't take a Command's dependencies away: a fork of the component could
        release.cilium = unordered(release.cilium)
        command.Steps.command = unordered(command.Steps.command)
    KubeProxyReplacement(NAME, arguments(pulumi.Config()), pulumi.ResourceOptions(protect=not BROKEN))
"""

BREAK = {
    "pinned-chart-version": {FOUND},
    "no-triggers": COMMANDS,
    "api-server-not-a-service": {CILIUM},
    "protected-in-production": COMMANDS | {CILIUM},
    "cilium-after-removals": {CILIUM},
}
"""By policy, what breaks it where everything is broken."""


@dataclass(frozen=True)
class Tried:
    """The previews of one kind of release: of what the program declares, and where everything is broken.

    Attributes:
        more: Commands that stand where else there is the Release.
    """

    kept: Run
    broken: Run
    more: frozenset[str] = frozenset()


class Team:
    """A team's stack, with the pack that the cluster's owner holds against it."""

    def __init__(self, cluster: Cluster, new_stack: NewStack, folder: Path) -> None:
        project = copy_program(folder / "project")
        (project / "__main__.py").write_text(dedent(PROGRAM))
        self.stack = new_stack(cluster, project=project, mode="replace")
        config = folder / "config.json"
        config.write_text(json.dumps({"protected-in-production": {"stacks": [self.stack.name]}}))
        self.pack = ("--policy-pack", str(REPOSITORY / "policies"), "--policy-pack-config", str(config))

    def previews(self, more: frozenset[str] = frozenset()) -> Tried:
        self.stack.config("ciliumVersion", VERSION)
        kept = self.stack.preview(*self.pack)
        self.breaks("order too")
        self.stack.config("ciliumVersion", None)
        return Tried(kept, self.stack.preview(*self.pack, fails=True), more)

    def breaks(self, what: str) -> None:
        """Args: "order too", or anything else for all but the order."""
        self.stack.environment["BROKEN"] = what


@pytest.fixture(scope="module")
def team(cluster: Cluster, new_stack: NewStack, tmp_path_factory: pytest.TempPathFactory) -> Team:
    return Team(cluster, new_stack, tmp_path_factory.mktemp("policies"))


@pytest.fixture(scope="module")
def own(team: Team) -> Tried:
    """On a cluster without Cilium."""
    return team.previews()


@pytest.fixture(scope="module")
def adopted(team: Team, own: Tried, cluster: Cluster, toolchain: Toolchain) -> Tried:
    """Beside a Cilium that its owner's Helm has installed."""
    del team.stack.environment["BROKEN"]
    done = subprocess.run(
        [str(toolchain.helm), "install", "cilium", str(toolchain.cilium_chart), "--namespace", "kube-system"],
        env=os.environ | {"KUBECONFIG": str(cluster.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return team.previews(frozenset({CILIUM}))


@pytest.fixture(params=["own", "adopted"])
def tried(request: pytest.FixtureRequest) -> Tried:
    found: Tried = request.getfixturevalue(request.param)
    return found


def broken_by(run: Run) -> dict[str, set[str]]:
    """By policy, the resources that break it, and that the run fails for."""
    found: dict[str, set[str]] = {}
    for event in run.events:
        its = event.get("policyEvent")
        if its and its["enforcementLevel"] == "mandatory":
            found.setdefault(its["policyName"], set()).add(its["resourceUrn"].rpartition("::")[2])
    return found


def test_what_the_program_declares_keeps_every_policy(tried: Tried) -> None:
    assert not [event for event in tried.kept.events if "policyEvent" in event]
    assert "kube-proxy-replacement@v" in tried.kept.text, "the pack wasn't run"


@pytest.mark.parametrize("policy", BREAK)
def test_what_breaks_a_policy_is_named(tried: Tried, policy: str) -> None:
    its = BREAK[policy] | (tried.more if policy == "no-triggers" else set())
    assert broken_by(tried.broken).get(policy) == its


def test_no_policy_is_left_untried(tried: Tried) -> None:
    assert broken_by(tried.broken).keys() == BREAK.keys()


def test_an_up_stops_before_what_breaks_a_policy(team: Team, cluster: Cluster) -> None:
    team.breaks("all but the order")
    team.stack.config("ciliumVersion", VERSION)  # else it would stop at its very first resource
    since = cluster.mark()
    run = team.stack.up(*team.pack, fails=True)
    assert run.ops.get(FOUND) == "create"
    assert broken_by(run) == {"no-triggers": {HAND_OVER}, "protected-in-production": {HAND_OVER}}
    assert not changes_by_person(cluster.audit(since))
