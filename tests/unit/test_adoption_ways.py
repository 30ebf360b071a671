"""The three ways: the owner's values as recorded, the newest revision of ours, and the one that runs."""

from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import adoption
from kube_proxy_replacement.cluster.helm_release import HelmRelease
from kube_proxy_replacement.cluster.owner import Owner
from kube_proxy_replacement.cluster.told import OURS, PUT_BACK
from kube_proxy_replacement.cluster.trees import ABSENT, merged

NAME = "kube-system/cilium"
HIS: dict[str, Any] = {"mtu": 1400, "kubeProxyReplacement": False, "operator": {"affinity": None}, "empty": {}}
SET: dict[str, Any] = {"kubeProxyReplacement": "true", "operator": {"rollOutPods": True}, "socketLB": {"on": True}}
OWNER = Owner(NAME, "1.18.6", 1, HIS)


def revision(
    number: int,
    values: dict[str, Any],
    said: str = "Upgrade complete",
    status: str = "superseded",
    version: str = "1.18.6",
) -> HelmRelease:
    return HelmRelease("kube-system", "cilium", version, number, status, {}, values, said)


def since(
    *newest_first: HelmRelease, ours: dict[str, Any] | None = None
) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """The owner's values then, and the paths of what he has changed."""
    owner, his = adoption.since(OWNER, newest_first, SET if ours is None else ours)
    return dict(owner.values), [change.path for change in his]


FIRST = revision(1, HIS, "Install complete")
BY_US = revision(2, merged(HIS, SET), OURS)


class TestFound:
    def test_what_runs_is_his(self) -> None:
        newer = revision(2, {"mtu": 9000}, status="deployed", version="1.18.7")
        assert adoption.found(NAME, [newer, FIRST]) == Owner(NAME, "1.18.7", 2, {"mtu": 9000})

    @pytest.mark.parametrize("status", ["failed", "pending-upgrade", "pending-rollback"])
    def test_a_revision_that_is_not_done_is_not_what_he_has(self, status: str) -> None:
        broken = revision(2, {"mtu": 9000}, status=status)
        assert adoption.found(NAME, [broken, revision(1, HIS, status="deployed")]) == OWNER

    def test_a_first_install_that_failed_is_all_that_there_is(self) -> None:
        assert adoption.found(NAME, [revision(1, HIS, status="failed")]) == OWNER

    def test_ours_are_never_taken_for_his(self) -> None:
        """The Secret was deleted: his are what was there before the first of ours, whoever came later."""
        later = revision(3, merged(HIS, SET) | {"debug": True}, status="deployed")
        assert adoption.found(NAME, [later, BY_US, FIRST]) == OWNER

    def test_what_destroy_put_back_is_his(self) -> None:
        put_back = revision(4, HIS | {"debug": True}, PUT_BACK, "deployed")
        assert adoption.found(NAME, [put_back, BY_US, FIRST]) == Owner(NAME, "1.18.6", 4, HIS | {"debug": True})

    def test_one_that_was_given_back_is_his_and_what_he_does_then_too(self) -> None:
        put_back = revision(4, HIS, PUT_BACK)
        later = revision(5, {"mtu": 9000}, status="deployed")
        assert adoption.found(NAME, [later, put_back, BY_US, FIRST]) == Owner(NAME, "1.18.6", 5, {"mtu": 9000})
        again = [revision(6, merged({"mtu": 9000}, SET), OURS, "deployed"), revision(5, {"mtu": 9000}), put_back, BY_US]
        assert adoption.found(NAME, again) == Owner(NAME, "1.18.6", 5, {"mtu": 9000})

    def test_a_release_of_ours_alone_has_no_owner(self) -> None:
        assert adoption.found(NAME, [revision(1, SET, OURS, "deployed")]) is None

    def test_no_release_has_no_owner(self) -> None:
        assert adoption.found(NAME, []) is None


class TestSince:
    def test_a_revision_of_ours_says_nothing_of_him(self) -> None:
        assert since(revision(2, merged(HIS, SET) | {"mtu": 1}, OURS, "deployed"), FIRST) == (HIS, [])

    def test_before_the_first_of_ours_nothing_has_changed(self) -> None:
        assert since(revision(1, HIS, "Install complete", "deployed")) == (HIS, [])

    def test_what_he_changed_on_top_of_ours_is_his(self) -> None:
        on_top = revision(3, merged(HIS, SET) | {"mtu": 9000, "debug": {"enabled": True}}, status="deployed")
        assert since(on_top, BY_US, FIRST) == (
            HIS | {"mtu": 9000, "debug": {"enabled": True}},
            [("debug", "enabled"), ("mtu",)],
        )

    def test_his_own_file_once_more_is_no_change_of_his(self) -> None:
        """`helm upgrade -f` his file: ours are gone from the release, and his are what they were."""
        assert since(revision(3, HIS, status="deployed"), BY_US, FIRST) == (HIS, [])

    def test_what_he_takes_out_is_taken_out(self) -> None:
        less = {key: value for key, value in HIS.items() if key != "mtu"}
        assert since(revision(3, less, status="deployed"), BY_US, FIRST) == (less, [("mtu",)])

    def test_a_null_of_his_that_goes_or_comes_is_a_change(self) -> None:
        his = {**HIS, "operator": {}, "mtu": None}
        values, paths = since(revision(3, his, status="deployed"), BY_US, FIRST)
        assert values["mtu"] is None
        assert ("mtu",) in paths
        assert "operator" not in values
        assert ("operator", "affinity") in paths

    def test_what_this_program_sets_is_never_his(self) -> None:
        other = merged(merged(HIS, SET), {"kubeProxyReplacement": "false", "socketLB": {"on": False}})
        assert since(revision(3, other, status="deployed"), BY_US, FIRST) == (HIS, [])

    def test_what_this_program_set_before_is_never_his(self) -> None:
        """A setting that is gone meanwhile: what it had set is still in the newest of ours."""
        before = revision(2, merged(HIS, {**SET, "debug": True}), OURS)
        kept = revision(3, merged(HIS, {**SET, "debug": True}) | {"mtu": 1}, status="deployed")
        assert since(kept, before, FIRST) == (HIS | {"mtu": 1}, [("mtu",)])

    def test_what_was_looked_at_already_is_not_looked_at_again(self) -> None:
        seen = Owner(NAME, "1.18.6", 3, HIS)
        runs = revision(3, merged(HIS, SET) | {"mtu": 1}, status="deployed")
        assert adoption.since(seen, [runs, BY_US, FIRST], SET) == (seen, [])

    def test_a_rollback_to_one_of_ours_or_to_the_first_is_nobodys_change(self) -> None:
        for target, values in ((2, merged(HIS, SET)), (1, HIS)):
            rolled = revision(3, values, f"Rollback to {target}", "deployed")
            assert since(rolled, BY_US, FIRST) == (HIS, [])

    def test_a_rollback_to_an_older_one_of_ours_brings_nothing_of_his(self) -> None:
        """What a setting of that time had set, and none does now, would be taken for his."""
        older = revision(2, merged(merged(HIS, SET), {"debug": True}), OURS)
        rolled = revision(4, older.values | {}, "Rollback to 2", "deployed")
        assert since(rolled, revision(3, merged(HIS, SET), OURS), older, FIRST) == (HIS, [])

    def test_a_rollback_to_one_of_his_is_his(self) -> None:
        his = merged(HIS, SET) | {"mtu": 9000}
        every = (
            revision(5, his, "Rollback to 3", "deployed"),
            revision(4, merged(HIS, SET), OURS),
            revision(3, his),
            BY_US,
        )
        assert since(*every)[1] == [("mtu",)]

    def test_without_a_revision_of_ours_in_helms_history_the_record_stands_in(self) -> None:
        on_top = revision(30, merged(HIS, SET) | {"mtu": 9000}, status="deployed")
        assert since(on_top) == (HIS | {"mtu": 9000}, [("mtu",)])

    def test_one_that_failed_or_is_under_way_is_no_change_yet(self) -> None:
        for status in ("failed", "pending-upgrade"):
            ours = revision(2, merged(HIS, SET), OURS, "deployed")
            assert since(revision(3, {"mtu": 1}, status=status), ours, FIRST) == (HIS, [])

    def test_a_new_version_of_the_chart_is_recorded_with_it(self) -> None:
        runs = revision(3, merged(HIS, SET) | {"mtu": 1}, status="deployed", version="1.18.7")
        owner, his = adoption.since(OWNER, [runs, BY_US, FIRST], SET)
        assert (owner.version, owner.revision, his[0].before, his[0].after) == ("1.18.7", 3, 1400, 1)

    def test_a_whole_map_that_he_adds_beside_ours_is_his_and_ours_is_not(self) -> None:
        runs = revision(3, merged(merged(HIS, SET), {"socketLB": {"enabled": True}}), status="deployed")
        values, paths = since(runs, BY_US, FIRST)
        assert (values["socketLB"], paths) == ({"enabled": True}, [("socketLB", "enabled")])

    def test_an_absent_value_is_not_a_null(self) -> None:
        assert repr(ABSENT) == "nothing"
