"""What became of traffic, read from lines as `traffic probe` writes them."""

from pathlib import Path

import pytest

from local.real import moving, traffic
from local.real.moving import Move, Moves
from local.real.traffic import Outcomes

START = 1000.0


def read(folder: Path, *lines: str, end: float = float("inf"), moves: str = "") -> Outcomes:
    """The outcomes of lines whose instants are seconds after START."""
    text = ""
    for line in lines:
        after, _, rest = line.partition(" ")
        text += f"{START + float(after):.3f} {rest}\n"
    (folder / "outside-host.txt").write_text(text)
    (folder / "moves").write_text(moves)
    return traffic.read(folder, START, START + end, "switch-over")


def test_answers_are_counted_by_who_gave_them(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "0.0 outside>cluster-host@node-1 tcp 3 node-1:18080",
        "0.1 outside>cluster-host@node-1 tcp 1000 node-2:18080",
        "0.2 outside>cluster-host@node-1 tcp 999 node-2:18080",
    )
    outcome = found.streams["outside>cluster-host@node-1"]
    assert (outcome.sent, outcome.failed, outcome.late, outcome.slowest) == (3, 0, 0, 1000)
    assert outcome.answers == {"node-1:18080": 1, "node-2:18080": 2}


def test_an_answer_after_more_than_a_second_is_late_not_failed(tmp_path: Path) -> None:
    found = read(tmp_path, "0.0 outside>cluster-host@node-1 tcp 1001 node-1:18080")
    assert (found.late, found.failed, found.slowest) == (1, 0, 1001)


@pytest.mark.parametrize(
    ("line", "source", "target", "node"),
    [
        ("2.5 outside>local-pod@node-2 tcp 3000 ! read: timed out", "outside", "local-pod", "node-2"),
        ("2.5 host/node-1>cluster-pod tcp 3000 ! read: timed out", "host/node-1", "cluster-pod", "node-1"),
        ("2.5 pod/node-2>ports-host/2 tcp 3000 ! read: timed out", "pod/node-2", "ports-host/2", "node-2"),
    ],
)
def test_a_failure_says_where_and_when(tmp_path: Path, line: str, source: str, target: str, node: str) -> None:
    [failure] = read(tmp_path, line).failures
    assert (failure.source, failure.target, failure.node) == (source, target, node)
    assert (failure.instant, failure.step, failure.milliseconds) == (START + 2.5, "switch-over", 3000)
    assert failure.error == "read: timed out"


def test_only_what_was_asked_in_the_span_counts(tmp_path: Path) -> None:
    lines = [f"{after} outside>dns-host@node-1 dns 1 node-1:18053" for after in (-0.1, 0.0, 9.9, 10.0)]
    assert read(tmp_path, *lines, end=10.0).sent == 2


def test_a_line_that_is_being_written_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1000.000 outside>cluster-host@node-1 tcp 3 node-1:18080\n1000.1 outside>clu")
    assert traffic.read(tmp_path).sent == 1


def test_the_longest_gap_is_between_right_answers(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "0.0 outside>cluster-host@node-1 tcp 0 node-1:18080",
        "1.0 outside>cluster-host@node-1 tcp 3000 ! read: timed out",
        "2.0 outside>cluster-host@node-1 tcp 500 node-1:18080",
        "3.0 outside>cluster-host@node-1 tcp 0 node-1:18080",
    )
    assert found.longest_gap == pytest.approx(2.5)


def test_the_longest_gap_reaches_to_the_last_question(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "0.0 outside>cluster-host@node-1 tcp 0 node-1:18080",
        "1.0 outside>cluster-host@node-1 tcp 0 ! dial: connection refused",
        "4.0 outside>cluster-host@node-1 tcp 0 ! dial: connection refused",
    )
    assert found.longest_gap == pytest.approx(4.0)


def test_the_whole_is_the_sum_of_the_streams(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "0.0 outside>cluster-host@node-1 tcp 1200 node-1:18080",
        "0.0 outside>dns-host@node-2 dns 3000 ! read: timed out",
        "0.5 host/node-1>cluster-host tcp 7 node-2:18080",
    )
    assert (found.sent, found.failed, found.late, found.slowest) == (3, 1, 1, 1200)
    assert found.answers == {"node-1:18080": 1, "node-2:18080": 1}


@pytest.mark.parametrize("target", ["local-host@node-2", "local-pod@node-2"])
def test_under_a_local_policy_another_nodes_answer_is_a_failure(tmp_path: Path, target: str) -> None:
    found = read(
        tmp_path,
        f"0.0 outside>{target} tcp 1 node-2:18080",
        f"0.1 outside>{target} tcp 1 node-1:18080",
    )
    assert [its.error for its in found.failures] == ["node-1:18080 answered, on another node"]
    assert found.answers == {"node-2:18080": 1}


def test_under_an_internal_local_policy_another_nodes_answer_is_a_failure(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "0.0 host/node-1>internal-host tcp 1 node-1:18080",
        "0.1 host/node-1>internal-host tcp 1 node-2:18080",
        "0.1 pod/node-2>internal-pod tcp 1 node-2:18080",
    )
    assert [its.stream for its in found.failures] == ["host/node-1>internal-host"]


def test_an_answer_from_where_the_service_was_is_a_failure_after_a_second(tmp_path: Path) -> None:
    asked = "outside>moving@node-1 tcp"
    found = read(
        tmp_path,
        f"1.0 {asked} 1 node-1:18080",
        f"1.1 {asked} 1 node-2:18080",  # it wasn't there yet
        f"5.9 {asked} 1 node-1:18080",  # within the second
        f"5.9 {asked} 1 node-2:18080",
        f"6.3 {asked} 1 node-1:18080",
        f"6.3 {asked} 1 node-2:18080",
        moves=f"{START} {START + 0.1} node-1\n{START + 5} {START + 5.2} node-2\n",
    )
    assert [round(its.instant - START, 1) for its in found.failures] == [1.1, 6.3]
    assert found.failures[1].error == "node-1:18080 answered, which is no endpoint any more"
    assert found.stale == pytest.approx(1.1)


def test_under_session_affinity_each_change_of_the_server_is_counted(tmp_path: Path) -> None:
    servers = ("node-1", "node-1", "node-2", "node-2", "node-2", "node-1")
    lines = [f"{after} outside>sticky-host@node-1 tcp 1 {server}:18080" for after, server in enumerate(servers)]
    lines += [f"{after} outside>cluster-host@node-1 tcp 1 {server}:18080" for after, server in enumerate(servers)]
    found = read(tmp_path, *lines)
    assert (found.streams["outside>sticky-host@node-1"].strayed, found.strayed, found.failed) == (2, 2, 0)


def test_a_service_that_is_not_answered_at_all_is_not_stale(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "6.5 outside>moving@node-1 tcp 3000 ! read: timed out",
        "6.6 outside>moving@node-1 tcp 1 node-2:18080",
        moves=f"{START} {START + 0.1} node-1\n{START + 5} {START + 5.2} node-2\n",
    )
    assert (found.failed, found.stale) == (1, 0.0)


def test_where_a_service_goes_while_it_is_asked_is_right(tmp_path: Path) -> None:
    moves = Moves([Move(0.0, 0.1, "node-1"), Move(10.0, 10.1, "node-2"), Move(20.0, 20.1, "node-1")])
    assert moves.allowed(9.0, 9.5) == {"node-1"}
    assert moves.allowed(9.0, 10.5) == {"node-1", "node-2"}
    assert moves.allowed(15.0, 15.1) == {"node-2"}
    assert moves.allowed(21.0, 21.0) == {"node-1", "node-2"}
    assert moves.allowed(21.2, 21.2) == {"node-1"}


def test_without_a_mover_nothing_has_moved(tmp_path: Path) -> None:
    assert moving.read(tmp_path / "moves").allowed(0.0, 1.0) == set()


def test_a_node_is_silent_from_the_first_that_fails_to_the_next_200(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "0.0 outside>health@node-1 http 1 200",
        "0.5 outside>health@node-1 http 0 ! dial: connection refused",
        "1.0 outside>health@node-1 http 3000 ! read: timed out",
        "4.5 outside>health@node-1 http 1 200",
        "5.0 outside>health@node-1 http 1 ! HTTP/1.0 503 Service Unavailable",
        "5.5 outside>health@node-1 http 1 200",
        "0.0 outside>health@node-2 http 1 200",
    )
    assert (found.health["node-1"].asked, found.health["node-1"].silent) == (6, pytest.approx(4.5))
    assert len(found.health["node-1"].failures) == 3
    assert found.health["node-2"].silent == 0.0
    assert (found.sent, found.failures) == (0, [])


def test_a_node_that_stays_silent_is_so_until_it_was_last_asked(tmp_path: Path) -> None:
    lines = [f"{after} outside>health@node-1 http 0 ! dial: connection refused" for after in (1.0, 1.5, 2.0)]
    assert read(tmp_path, *lines).health["node-1"].silent == pytest.approx(1.0)


def test_what_passes_no_service_is_told_apart(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "0.0 outside>control@node-1 tcp 3000 ! read: timed out",
        "0.0 outside>control@node-2 tcp 2 node-2:18082",
    )
    assert {node: its.failed for node, its in found.control.items()} == {"node-1": 1, "node-2": 0}
    assert (found.sent, found.failures) == (0, [])


def test_a_kept_connection_that_breaks_is_counted_once(tmp_path: Path) -> None:
    kept = "outside>cluster-host/long@node-1"
    found = read(
        tmp_path,
        f"0.0 {kept} long 1 node-1:18080",
        f"1.0 {kept} long 250 node-1:18080",
        f"1.6 {kept} long 0 ! broken: read: connection reset by peer (node-1:18080)",
        f"2.0 {kept} long 0 ! not opened: dial: connection refused",
        f"3.0 {kept} long 2 node-2:18080",
    )
    its = found.long_lived[kept]
    assert (its.broken, its.opened, its.open, found.broken) == (1, 1, 1, 1)
    assert its.longest_gap == pytest.approx(1.4), "from the break to the next connection"
    assert [failure.error.partition(":")[0] for failure in found.failures] == ["broken", "not opened"]
    assert found.failures[0].target == "cluster-host/long"
    assert found.sent == 0


def test_the_longest_gap_of_a_kept_connection_is_its_longest_wait(tmp_path: Path) -> None:
    kept = "host/node-1>cluster-host/long"
    found = read(tmp_path, f"0.0 {kept} long 1 node-1:18080", f"1.0 {kept} long 2100 node-1:18080")
    its = found.long_lived[kept]
    assert (its.longest_gap, its.broken, its.opened, its.open) == (pytest.approx(2.1), 0, 0, 1)


def test_a_connection_that_stays_broken_is_not_open(tmp_path: Path) -> None:
    kept = "host/node-1>cluster-host/long"
    found = read(tmp_path, f"0.0 {kept} long 1 node-1:18080", f"1.0 {kept} long 3000 ! broken: read: timed out (x)")
    assert (found.long_lived[kept].open, found.long_lived[kept].broken) == (0, 1)


def test_every_senders_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "sender-host-host-node-1.txt").write_text("1001.000 host/node-1>cluster-host tcp 1 node-1:18080\n")
    found = read(tmp_path, "0.0 outside>cluster-host@node-1 tcp 1 node-1:18080")
    assert sorted(found.streams) == ["host/node-1>cluster-host", "outside>cluster-host@node-1"]
