from __future__ import annotations

from dataclasses import replace

import pytest

from local.clone import ROOT
from local.real import table
from local.real.explained import KNOWN
from local.real.figures import BACK, THERE, Figures, kind
from local.real.traffic import Failure, Health, LongLived, Outcome, Outcomes
from local.real.turns import Turn

START = 1000.0
OUTSIDE = "outside>cluster-host/long@node-1"


def failure(stream: str, error: str, after: float = 5.0) -> Failure:
    source, _, target = stream.partition(">")
    return Failure(START + after, "a step", stream, source, target, "node-1", 3000, error)


def leg(*failures: Failure, rules: int = 0, lost: int = 0, settled: float | None = 30.0) -> Figures:
    outcomes = Outcomes(
        streams={"outside>local-host@node-1": Outcome(sent=100)},
        long_lived={OUTSIDE: LongLived(open=1)},
        health={"node-1": Health(asked=50, silent=7.5)},
        control={"node-1": Outcome(sent=10)},
    )
    for its in failures:
        if "/long" in its.stream:
            outcomes.long_lived.setdefault(its.stream, LongLived()).failures.append(its)
        else:
            outcomes.streams.setdefault(its.stream, Outcome()).failures.append(its)
    return Figures(START, 60.0, {"node-1": settled}, outcomes, {"node-1": rules}, {"node-1": lost})


def legs(there: Figures | None = None, back: Figures | None = None) -> dict[str, Figures]:
    return {THERE: there or leg(), BACK: back or leg(rules=90)}


WORSE = failure("outside>local-host@node-1", "connection refused")
RESET = failure(OUTSIDE, "broken: read: connection reset by peer")


def test_a_way_without_a_failure_holds_every_bound() -> None:
    found = table.verdict(legs(), legs())
    assert (found.broken, found.line) == ((), "bounds: all held")


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (leg(WORSE), "1 failures that nothing explains"),
        (leg(rules=3), "3 rules left on node-1"),
        (leg(lost=2), "2 foreign rules lost on node-1"),
        (leg(settled=None), "not every node's agent replaces"),
    ],
)
def test_what_breaks_a_bound_is_said_in_the_last_line(there: Figures, words: str) -> None:
    found = table.verdict(legs(there), legs(leg(WORSE)))
    assert found.line.startswith("bounds: NOT held: switch-over: ")
    assert words in found.line


def test_one_node_that_never_switches_is_enough() -> None:
    one = replace(leg(), settled={"node-1": 20.0, "node-2": None})
    assert "not every node's agent replaces" in table.verdict(legs(one), legs()).line


def turn(*failures: Failure, start: float = 3, end: float = 9) -> Figures:
    """A leg in which node-1 had its turn between these seconds."""
    return replace(leg(*failures), turns={"node-1": Turn(START + start, START + end)})


def one_by_one(there: Figures) -> str:
    """The verdict beside a manual way that has lost more."""
    manual = legs(leg(*[RESET] * 9))
    back = replace(turn(), rules={"node-1": 90})
    return table.verdict(legs(there, back), manual, one_by_one=True).line


def test_what_breaks_on_a_node_in_its_turn_is_explained_and_on_another_one_it_breaks_a_bound() -> None:
    assert one_by_one(turn(RESET)) == "bounds: all held"
    assert "1 failures on nodes that weren't being handed over, first +5.00 s" in one_by_one(turn(RESET, end=1))
    elsewhere = replace(RESET, node="node-2")
    assert "1 failures on nodes that weren't being handed over" in one_by_one(turn(elsewhere))


def test_a_node_without_a_turn_breaks_a_bound() -> None:
    assert "node-1 had no turn" in one_by_one(leg())


def test_nodes_that_are_silent_at_a_time_or_twice_break_a_bound() -> None:
    one, two = (START + 1, START + 9), (START + 10, START + 12)

    def silent(**spans: list[tuple[float, float]]) -> str:
        figures = turn()
        for node, its in spans.items():
            figures.outcomes.health[node.replace("_", "-")] = Health(asked=50, silences=its)
        return one_by_one(figures)

    assert silent(node_1=[one], node_2=[two]) == "bounds: all held"
    assert "2 nodes were silent on port 10256 at a time" in silent(node_1=[one], node_2=[(START + 8, START + 12)])
    assert "node-1 was silent on port 10256 2 times" in silent(node_1=[one, two])


def test_several_verdicts_are_one_with_the_names_of_their_ways() -> None:
    found = table.together(
        {"all-at-once": table.verdict(legs(leg(WORSE)), legs(leg(WORSE))), "b": table.verdict({}, {})}
    )
    assert found.broken[0].startswith("all-at-once: switch-over: 1 failures")
    assert found.broken[1] == "b: switch-over: not taken to its end"


def test_a_way_back_without_rules_breaks_a_bound() -> None:
    assert "switch-back: no rule on node-1" in table.verdict(legs(back=leg(rules=0)), legs()).line


def test_a_step_that_failed_breaks_a_bound() -> None:
    assert "pulumi up, replace: exit 1" in table.verdict(legs(), legs(), ["pulumi up, replace: exit 1"]).line


@pytest.mark.parametrize("missing", [THERE, BACK])
def test_a_leg_that_was_not_taken_breaks_a_bound(missing: str) -> None:
    taken = {name: its for name, its in legs().items() if name != missing}
    assert "not taken to its end" in table.verdict(taken, legs()).line
    assert "not taken to its end" in table.verdict(legs(), taken).line


def test_a_reset_connection_is_explained_and_once_more_where_it_was_opened_anew_too_soon() -> None:
    again = [replace(RESET, instant=START + after) for after in (5, 6, 7)]
    manual = legs(leg(*again))
    twice = table.verdict(legs(leg(*again[:2])), manual)
    assert twice.broken == ()
    assert "2 × " in twice.explained[0]
    assert "docs/connections.md" in twice.explained[0]
    often = table.verdict(legs(leg(*again)), manual)
    assert "1 failures that nothing explains" in often.line
    assert any(OUTSIDE in line for line in often.unexplained)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("sticky", "read: timed out"),
        ("sticky", "dial: timed out"),
        ("sticky", "dial: connection reset by peer"),
        ("dns", "read: timed out"),
    ],
)
def test_a_new_connection_is_explained_where_its_packets_met_both(target: str, error: str) -> None:
    hung = failure(f"outside>{target}-host@node-1", error)
    assert table.verdict(legs(leg(hung)), legs(leg(hung))).broken == ()


def test_a_new_connection_is_explained_once_a_stream_and_not_where_nobody_took_it() -> None:
    stream = "outside>sticky-host@node-1"
    hung, refused = failure(stream, "read: timed out"), failure(stream, "dial: connection refused")
    manual = legs(leg(hung, hung, hung))
    for its in (leg(refused), leg(hung, replace(hung, instant=START + 9))):
        assert "1 failures that nothing explains" in table.verdict(legs(its), manual).line


def test_what_is_explained_still_may_not_be_more_than_the_manual_ways() -> None:
    assert table.verdict(legs(leg(RESET)), legs()).broken == ("1 broken connections there and back, 0 the manual way",)
    moved = leg(failure("outside>moving@node-1", "no answer"))
    assert table.verdict(legs(moved), legs()).broken == ("1 failed requests there and back, 0 the manual way",)


def test_the_two_ways_are_compared_there_and_back_together() -> None:
    back = leg(RESET, rules=90)
    assert table.verdict(legs(back=back), legs(leg(RESET))).broken == ()


def test_a_moving_endpoint_is_explained_until_the_last_agent_has_switched() -> None:
    moving = "outside>moving@node-1"
    manual = legs(leg(*[failure(moving, "no answer") for _ in range(9)]))
    inside = table.verdict(legs(leg(failure(moving, "no answer", after=29))), manual)
    after = table.verdict(legs(leg(failure(moving, "no answer", after=36))), manual)
    assert (len(inside.broken), len(after.broken)) == (0, 1)


@pytest.mark.parametrize("where", [its.where for its in KNOWN])
def test_what_explains_a_failure_is_in_the_documentation(where: str) -> None:
    path, _, anchor = where.partition("#")
    headings = [line.lstrip("# ") for line in (ROOT / path).read_text().splitlines() if line.startswith("#")]
    assert anchor in [
        "".join(it for it in its.lower() if it.isalnum() or it in " -").replace(" ", "-") for its in headings
    ]


def test_only_outsides_connections_are_explained() -> None:
    inside = failure("pod/node-1>cluster-host/long", "broken: read: connection reset by peer")
    hung = failure(OUTSIDE, "broken: read: timed out")
    manual = legs(leg(inside, hung))
    assert "failures that nothing explains" in table.verdict(legs(leg(inside)), manual).line
    assert "failures that nothing explains" in table.verdict(legs(leg(hung)), manual).line


def test_a_broken_connection_that_could_not_be_opened_again_is_a_failed_request() -> None:
    again = failure(OUTSIDE, "not opened: connection refused")
    its = leg(RESET, again)
    assert (its.connections, its.requests) == ([RESET], [again])


def test_errors_have_the_names_of_the_table() -> None:
    assert kind("read tcp 10.10.0.200:4: connection reset by peer") == "reset"
    assert kind("dial tcp 10.10.0.11:30001: i/o timeout") == "no answer in 3 s"
    assert kind("node-2:18080 answered, on another node") == "wrong server"
    assert kind("something new") == "something new"


def test_the_table_has_both_ways_side_by_side() -> None:
    text = table.text({"one": legs(leg(WORSE)), "other": legs(leg(WORSE, WORSE, WORSE))})
    cells = {line[:52].strip(): line[52:].split() for line in text.splitlines()}
    assert cells["refused"] == ["1", "3"]
    assert cells["port 10256 silent, node-1"] == ["7.5", "s", "7.5", "s"]
