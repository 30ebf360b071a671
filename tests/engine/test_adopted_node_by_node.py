"""An owner's Cilium node by node: there, cut off on the way back and there, and left to him as he had it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from local.toolchain import Toolchain
from tests.engine.acts import Act, act
from tests.engine.conftest import NewStack
from tests.engine.cut_off import Left, Life, asked, beside, says, switched
from tests.engine.harness import Cluster, Object
from tests.engine.test_node_by_node import nothing_left
from tests.engine.test_rights import owners_cilium

PATIENCE = 20
AGENTS = "DaemonSet.apps kube-system/cilium"


@pytest.fixture(scope="module")
def life(cluster: Cluster, toolchain: Toolchain, new_stack: NewStack) -> Iterator[Life]:
    owners_cilium(cluster, toolchain, "install", "MTU=1400")
    its = Life(cluster, new_stack(cluster, mode="replace", strategy=None, timeoutSeconds=PATIENCE))
    yield its
    its.close()


@dataclass(frozen=True)
class Way:
    """Each act in its order; `cut` are what was left by those that were cut off."""

    there: Act
    back: Act
    cut: tuple[Left, ...]
    gone: tuple[Act, ...]


@pytest.fixture(scope="module")
def way(cluster: Cluster, life: Life) -> Way:
    there = act(cluster, life.stack, "up")
    back = life.to("coexist")
    life.stack.config("mode", "replace")
    first = life.cut("up", "the second is labelled", asked("patch", "nodes", "node-3"))
    gone = life.destroyed()
    life.stack.up()
    life.stack.config("mode", "coexist")
    second = life.cut("up", "one is handed back", says("handed back 1/3"))
    return Way(there, back, (first, second), (gone, life.destroyed()))


def test_it_is_handed_over_and_back(way: Way, life: Life, cluster: Cluster) -> None:
    switched(way.there)
    beside(way.back, life)
    assert "handed over 3/3" in way.there.run.notes()
    assert "handed back 3/3" in way.back.run.notes()


def test_kube_proxy_can_be_restored_where_it_is_cut_off(way: Way) -> None:
    assert [its.safe for its in way.cut] == [True, True]


@pytest.mark.parametrize("cut", ["on the way there", "on the way back"])
def test_destroy_after_that_leaves_his_agents_as_he_had_them(way: Way, life: Life, cluster: Cluster, cut: str) -> None:
    after = way.gone[cut == "on the way back"].after
    nothing_left(after, cluster)
    assert content(after[AGENTS]) == content(life.found[AGENTS])


def content(daemonset: Object) -> Object:
    """What an owner has written; Helm counts revisions of none of it."""
    notes = {key: value for key, value in daemonset["metadata"]["annotations"].items() if "deprecated" not in key}
    return {"annotations": notes, "spec": daemonset["spec"]}
