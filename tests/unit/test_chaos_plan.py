"""What chaos draws."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import pytest

from local.chaos.plan import DESTROY, KINDS, STEPS, UP, Plan, draw

SEEDS = (7, 11, 23)


def drawn(seed: int, runs: int = 50) -> list[Plan]:
    return list(islice(draw(seed), runs))


def test_the_same_seed_draws_the_same_and_another_one_doesnt() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(11)


@pytest.mark.parametrize("seed", SEEDS)
def test_instants_are_spread_over_all_steps_and_over_each(seed: int) -> None:
    plans = drawn(seed)
    assert min(Counter(plan.instant.step for plan in plans)[step] for step in STEPS) >= 4
    for half in (0.5, 1.0):
        assert sum(1 for plan in plans if half - 0.5 <= plan.instant.fraction < half) >= 15


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_that_can_be_done_is_drawn(seed: int) -> None:
    assert {plan.kind for plan in drawn(seed)} == set(KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_step_is_one_of_the_command_that_is_run(seed: int) -> None:
    for plan in drawn(seed):
        verb, _, step = plan.instant.step.partition(" ")
        assert verb == ("destroy" if plan.command == "destroy" else "up")
        assert step in (DESTROY if verb == "destroy" else UP)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_run_has_something_to_do(seed: int) -> None:
    for plan in drawn(seed):
        assert plan.end != plan.start or plan.halfway, plan


@pytest.mark.parametrize("seed", SEEDS)
def test_both_strategies_are_drawn_and_nodes_are_handed_over_where_agents_are(seed: int) -> None:
    plans = drawn(seed)
    assert min(Counter(plan.strategy for plan in plans).values()) >= 15
    for plan in plans:
        if plan.instant.step == "up hand-over":
            assert (plan.strategy, plan.start != "fresh") == ("node-by-node", True), plan


def test_a_strategy_of_all_of_them_changes_nothing_else() -> None:
    plans = list(islice(draw(8, "node-by-node"), 30))
    assert {plan.strategy for plan in plans} == {"node-by-node"}
    assert plans == [replace(plan, strategy="node-by-node") for plan in drawn(8, 30)]


@pytest.mark.parametrize("seed", SEEDS)
def test_most_runs_start_where_the_one_before_them_ended(seed: int) -> None:
    plans = drawn(seed)
    stays = sum(1 for before, after in pairwise(plans) if before.end == after.start)
    assert stays >= len(plans) * 0.6
