from __future__ import annotations

import pytest

from kube_proxy_replacement.cluster import checks
from kube_proxy_replacement.cluster.checks import Refusal
from kube_proxy_replacement.cluster.errors import ProcedureError


def test_nothing_to_say_is_nothing_to_tell() -> None:
    assert checks.demand(None, ["managed-by"]) == ""


@pytest.mark.parametrize("check", checks.NAMES)
def test_a_no_ends_with_the_name_to_write(check: str) -> None:
    with pytest.raises(ProcedureError, match=rf"It is so\. Nothing was changed\..* write {check} into skipChecks\.$"):
        checks.demand(Refusal("It is so.", check), ["another"])


def test_it_is_said_once_that_nothing_was_changed() -> None:
    with pytest.raises(ProcedureError) as caught:
        checks.demand(Refusal("It is so. Nothing was changed. Do this."), [])
    assert str(caught.value) == "It is so. Nothing was changed. Do this."


def test_one_without_a_name_is_never_skipped() -> None:
    with pytest.raises(ProcedureError, match="It is so"):
        checks.demand(Refusal("It is so."), ["", *checks.NAMES])


def test_what_is_skipped_is_told() -> None:
    told = checks.demand(Refusal("It is so. Nothing was changed. Do this.", "managed-by"), ["managed-by"])
    assert told == "skipChecks, managed-by: It is so. Do this."
