"""The page on a preview: from events as the engine writes them, to what a reviewer reads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kube_proxy_replacement.review import change, events, page, veil
from kube_proxy_replacement.review.__main__ import main

STACK = "urn:pulumi:prod::team::"
COMPONENT = f"{STACK}{change.COMPONENT}::network"
SECRET = "hunter2isnotforlogs"
ENCRYPTED = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "[secret]"}

Event = dict[str, Any]


def step(name: str, op: str, before: Any = None, after: Any = None, *, of: str = COMPONENT, **more: Any) -> Event:
    """A resource of the component `of`."""
    metadata = {"op": op, "urn": f"{of}$some:index:Type::{name}", "type": "some:index:Type", **more}
    old = None if before is None else {"inputs": before, "parent": of}
    return {"resourcePreEvent": {"metadata": metadata | {"old": old, "new": {"inputs": after or {}, "parent": of}}}}


def component(name: str = "network", op: str = "same") -> Event:
    urn = f"{STACK}{change.COMPONENT}::{name}"
    return {"resourcePreEvent": {"metadata": {"op": op, "urn": urn, "type": change.COMPONENT, "old": None, "new": {}}}}


def said(message: str, severity: str = "info", urn: str = COMPONENT) -> Event:
    return {"diagnosticEvent": {"urn": urn, "message": message, "severity": severity, "color": "never"}}


def found(what: str, before: str | None = "coexist", after: str = "replace", **plan: Any) -> Event:
    """What step 1 found; `what` as in `looking.Found.plan`."""
    its = {"what": what, "fresh": False, "nodes": ["a1", "n2"], "leftOut": [], **plan}
    address = {"host": "192.0.2.10", "port": 6443, "source": "ConfigMap kube-system/kube-proxy"}
    inputs = {"mode": after, "cluster": "uid-1", "server": "https://192.0.2.10:6443", "apiServer": address, "plan": its}
    return step("network-found", "update", None if before is None else {"mode": before}, inputs)


def release(before: Any, after: Any, op: str = "update", **more: Any) -> Event:
    return step("network-cilium", op, before, after, **more)


END: Event = {"summaryEvent": {"result": "succeeded"}}


def read(*happened: Event) -> events.Preview:
    return events.read([json.dumps(its) for its in happened], lambda text: text.replace(SECRET, "[hidden]"))


def comment(*happened: Event) -> str:
    return page.comment(read(*happened, END), "prod", "Looked at.")


def issue(*happened: Event) -> str:
    return page.issue(read(*happened, END), "prod", "Looked at.")


# Which nodes


@pytest.mark.parametrize(
    ("what", "title", "words"),
    [
        ("switch-over", "switch-over from kube-proxy to Cilium", "its kube-proxy ends"),
        (
            "switch-back",
            "switch-back from Cilium to kube-proxy",
            "kube-proxy starts and routes; then its agent",
        ),
        ("beside", "Cilium beside kube-proxy", "kube-proxy goes on routing, untouched"),
        ("alone", "Cilium routes Services; there is no kube-proxy", "there is no kube-proxy to remove"),
    ],
)
def test_each_plan_says_what_happens_to_which_nodes(what: str, title: str, words: str) -> None:
    said = comment(component(), found(what))
    assert f"### Preview of `prod`: {title}" in said
    (row,) = [line for line in said.splitlines() if line.startswith("| `a1`")]
    assert row.startswith("| `a1`, `n2` | ") and words in row


def test_agents_start_where_there_are_none_yet() -> None:
    assert "its agent restarts with the replacement on" in comment(component(), found("switch-over"))
    assert "its agent starts with the replacement on" in comment(component(), found("switch-over", fresh=True))


def test_nodes_that_are_not_ready_are_told_apart() -> None:
    said = comment(component(), found("switch-over", nodes=["a1"], leftOut=["n2"]))
    assert "| `n2` | isn't Ready and isn't waited for: once it is back, kube-proxy ends there" in said
    assert "| `a1` | shows that it reaches the API server" in said
    later = "the first up after it is back does it |"
    assert f"| `n2` | isn't Ready and isn't waited for: {later}" in comment(
        component(), found("beside", leftOut=["n2"])
    )


def test_a_repair_names_the_node_of_each_finding() -> None:
    happened = [
        component(),
        found("", "replace", nodes=["n1", "n10", "n2"]),
        said("not as wanted: n10: its agent isn't replacing", "warning"),
        said("not as wanted: kube-proxy's DaemonSet is back", "warning"),
        step("network-agents", "update", {}, {}),
    ]
    page_ = comment(*happened)
    assert "repair of what isn't as wanted" in page_
    assert "| `n10` | mended: n10: its agent isn't replacing |" in page_
    assert "| `n1`, `n2` | a kube-proxy that is back goes again" in page_
    assert "#### Not as wanted\n\n- n10: its agent isn't replacing\n- kube-proxy's DaemonSet is back\n" in page_
    assert "#### Warnings" not in page_


def test_a_change_of_values_restarts_agents_and_leaves_kube_proxy_alone() -> None:
    values = release({"values": {"MTU": 1400}}, {"values": {"MTU": 1450}})
    said = comment(component(), found("", "replace"), values)
    assert "change of settings" in said
    assert "its agent restarts where the change reaches its configuration; kube-proxy isn't touched" in said
    assert "| `MTU` | `1400` | `1450` |" in said


@pytest.mark.parametrize(
    ("changed", "title", "words"),
    [
        ("network-agents", "steps run again", "the steps look at it again"),
        ("network-status", "readings renewed", "nothing; the readings in the outputs are renewed"),
    ],
)
def test_what_changes_no_node_says_so(changed: str, title: str, words: str) -> None:
    its = found("", "replace")
    its["resourcePreEvent"]["metadata"]["op"] = "same"
    said = comment(component(), its, step(changed, "update", {}, {}))
    assert title in said and f"| `a1`, `n2` | {words}" in said


def test_no_change_is_nothing_on_every_node() -> None:
    its = found("", "replace")
    its["resourcePreEvent"]["metadata"]["op"] = "same"
    said = comment(component(), its, release({"values": {"a": 1}}, {"values": {"a": 2}}, op="same"))
    assert "### Preview of `prod`: no change" in said
    assert "| `a1`, `n2` | nothing |" in said
    assert "| Mode | `replace`, as before |" in said
    assert "Helm values" not in said


def test_a_cluster_that_is_not_there_yet_is_said() -> None:
    unknown = step("network-found", "create", None, {"mode": "replace", "cluster": events.UNKNOWN, "apiServer": None})
    said = comment(component(op="create"), unknown)
    assert "the cluster isn't known yet" in said
    assert events.UNKNOWN not in said


def test_several_components_have_a_part_each() -> None:
    other = f"{STACK}{change.COMPONENT}::other"
    its = found("switch-over")["resourcePreEvent"]["metadata"]["new"]["inputs"]
    its["plan"] = {"what": "switch-back", "fresh": False, "nodes": ["b1"], "leftOut": []}
    said_ = comment(
        component(),
        found("switch-over"),
        component("other"),
        step("other-found", "update", {"mode": "replace"}, its | {"mode": "coexist"}, of=other),
        said("of the one"),
        said("of the other", urn=other),
    )
    first, second = said_.split("### `other`")
    assert "`a1`, `n2`" in first and "`b1`" not in first and "of the one" in first and "of the other" not in first
    assert "`b1`" in second and "`a1`" not in second and "of the other" in second and "of the one" not in second


# Helm values


def test_the_chart_s_version_is_told_where_it_changes() -> None:
    said = comment(component(), found("", "replace"), release({"version": "1.18.5"}, {"version": "1.18.6"}))
    assert "| Chart | `1.18.5` → `1.18.6` |" in said


def test_what_is_encrypted_differs_unseen_and_what_looks_like_a_secret_too() -> None:
    after = {"values": {"a": {"b": 1, "c": ENCRYPTED}, "hubble": {"token": "plain"}}}
    diff = {
        "values.a.c": {"diffKind": "update"},
        "values.x": {"diffKind": "add"},
        "description": {"diffKind": "update"},
    }
    its = release({"values": {"a": {"b": 1, "c": "was"}}}, after, detailedDiff=diff)
    said = comment(component(), found("", "replace"), its)
    assert '| `a.c` | `"was"` | (not shown) |' in said
    assert "| `hubble.token` | not set | (not shown) |" in said
    assert "| `x` |  | encrypted: not shown |" in said
    assert "description" not in said


def test_values_that_are_encrypted_as_a_whole_are_named_by_their_provider() -> None:
    its = release({"values": {"a": 1}}, {"values": ENCRYPTED}, detailedDiff={"values.bpf": {"diffKind": "add"}})
    said = comment(component(), found("switch-over"), its)
    assert "| `bpf` |  | encrypted: not shown |" in said
    new = release(None, {"values": ENCRYPTED}, op="create")
    assert "| `values` |  | encrypted: not shown |" in comment(component(), found("switch-over"), new)


# What says no


def test_what_says_no_comes_first_and_without_the_engine_s_own_words() -> None:
    errors = [
        said("<{%reset%}>some:Type resource 'network-found' has a problem: mode: no<{%reset%}>", "error"),
        said("an unhandled error occurred: program exited with non-zero exit code: 1", "error"),
    ]
    its = comment(component(), *errors)
    assert "### Preview of `prod`: refused" in its
    assert "#### What says no\n\n- mode: no\n\n" in its
    assert "unhandled" not in its and "Nothing says no" not in its


def test_an_error_that_nothing_explains_is_told_as_it_is() -> None:
    assert "unhandled error" in comment(
        said("an unhandled error occurred: program exited with non-zero exit code: 1", "error")
    )


def test_a_mandatory_policy_says_no_and_an_advisory_one_warns() -> None:
    its = {
        "policyPackName": "cluster",
        "policyName": "protected",
        "message": "it isn't protected",
        "resourceUrn": COMPONENT,
    }
    mandatory, advisory = ({"policyEvent": its | {"enforcementLevel": level}} for level in ("mandatory", "advisory"))
    assert "#### What says no\n\n- policy cluster/protected: it isn't protected" in comment(component(), mandatory)
    said_ = comment(component(), found("switch-over"), advisory)
    assert "**Nothing says no.**" in said_ and "#### Warnings\n\n- policy cluster/protected" in said_


@pytest.mark.parametrize("happened", [[], [component(), found("switch-over")]])
def test_a_preview_that_was_cut_off_never_looks_agreed_to(happened: list[Event]) -> None:
    preview = read(*happened)
    for its in (page.comment(preview, "prod", ""), page.issue(preview, "prod", "")):
        assert "didn't come to its end" in its and "Nothing says no" not in its
    assert "### Preview of `prod`: not finished" in page.comment(preview, "prod", "")


# Drift


def test_there_is_no_issue_where_all_is_as_wanted() -> None:
    its = found("", "replace")
    its["resourcePreEvent"]["metadata"]["op"] = "same"
    assert issue(component(), its, said("the agents were not read")) == ""


@pytest.mark.parametrize(
    "more",
    [
        step("network-agents", "update", {}, {}),
        said("not as wanted: kube-proxy is back", "warning"),
        said("no connection", "error"),
    ],
)
def test_there_is_one_where_anything_differs_or_could_not_be_looked_at(more: Event) -> None:
    its = found("", "replace")
    its["resourcePreEvent"]["metadata"]["op"] = "same"
    assert issue(component(), its, more).startswith("<!-- kube-proxy-replacement: drift of prod -->\n")


# The page


def test_what_others_said_is_text_and_nothing_else() -> None:
    evil = "<img src=x> @team/admins fixes #12 [a](http://x) `b` | **c** | image@sha256:1 </details>"
    its = comment(component(), found("switch-over"), said(evil, "warning"))
    (line,) = [each for each in its.splitlines() if "fixes" in each]
    assert r"\<img src=x\> @<!-- -->team/admins fixes #<!-- -->12 \[a\](http://x) \`b\` \| \*\*c\*\*" in line
    assert r"\</details\>" in line


def test_a_long_message_is_folded() -> None:
    its = comment(component(), found("switch-over"), said("word " * 200, "warning"))
    assert "- <details><summary>word word" in its and its.count("<details>") == its.count("</details>") == 2


@pytest.mark.parametrize(("text", "shown"), [("a|b", r"`a\|b`"), ("a`b", "`` a`b ``"), ("a\nb", "`a b`")])
def test_a_value_is_code_in_a_table(text: str, shown: str) -> None:
    assert page.code(text) == shown


def test_a_page_is_no_longer_than_github_takes() -> None:
    its = comment(component(), found("switch-over"), *(said(f"{number} {'word ' * 50}") for number in range(500)))
    assert 60_000 < len(its) <= page.LONGEST
    assert its.endswith("The run's log has all of it.*\n")


def test_of_a_large_cluster_so_many_nodes_are_named_that_the_rest_has_room() -> None:
    its = comment(component(), found("switch-over", nodes=[f"n{number}" for number in range(5000)], leftOut=["x"]))
    assert "`n99` and 4900 more, 5000 in all | shows that" in its and "| `x` | isn't Ready" in its


def test_a_message_that_is_said_twice_is_told_once() -> None:
    assert comment(component(), found("switch-over"), said("once"), said("once")).count("- once") == 1


# Secrets


def test_what_must_not_be_shown_is_taken_out_of_everything() -> None:
    its = comment(component(), found("switch-over"), said(f"x {SECRET}"), release({}, {"values": {"a": [SECRET]}}))
    assert SECRET not in its and "[hidden]" in its


@pytest.mark.parametrize("name", ["PULUMI_ACCESS_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "AWS_SECRET_ACCESS_KEY"])
def test_the_environment_s_secrets_are_known(name: str) -> None:
    assert veil.of({name: SECRET, "STACK": "production"})(f"on production: {SECRET}") == "on production: [secret]"


def test_a_kubeconfig_s_keys_are_known_as_they_stand_and_as_they_are_meant(tmp_path: Path) -> None:
    key = base64.b64encode(SECRET.encode()).decode()
    users = [{"name": "a", "user": {"client-key-data": key}}, {"name": "b", "user": {"token": "t0ken-of-b"}}]
    (tmp_path / "config").write_text(yaml.safe_dump({"users": users}))
    take_out = veil.of({"KUBECONFIG": f"{tmp_path / 'nowhere'}:{tmp_path / 'config'}"})
    assert take_out(f"{key}, {SECRET}, t0ken-of-b, a") == "[secret], [secret], [secret], a"


@pytest.mark.parametrize("content", ["{{{", "", "[1]", "users: x", "users: [{name: a}]"])
def test_a_kubeconfig_that_is_none_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    assert veil.of({"KUBECONFIG": str(tmp_path / "config")})("text") == "text"


def test_what_looks_like_a_credential_is_taken_out() -> None:
    said_ = veil.of({})("GET https://joe:pa55word@example.com failed, token=abc, Bearer xyz")
    assert not any(word in said_ for word in ("pa55word", "abc", "xyz"))


# The command


def test_the_command_prints_the_page_with_a_link_to_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "events.json"
    file.write_text("\n".join(map(json.dumps, [component(), found("switch-over"), said(SECRET), END])))
    where = {"GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "5"}
    assert main(["comment", str(file), "--stack", "prod", "--commit", "abc"], {**where, "MY_TOKEN": SECRET}) == 0
    out = capsys.readouterr().out
    assert out.startswith("<!-- kube-proxy-replacement: preview of prod -->\n")
    assert "Commit abc, looked at" in out and "(https://github.example/a/b/actions/runs/5)" in out
    assert SECRET not in out


def test_without_an_event_log_the_page_says_that_there_was_no_preview(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["comment", str(tmp_path / "none"), "--stack", "prod"], {}) == 0
    assert "didn't come to its end" in capsys.readouterr().out
