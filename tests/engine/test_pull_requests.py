"""A team's pull requests: the workflows in ci/github as they stand, on a cluster.

Their steps' commands are run by the shell that GitHub gives them; read afterwards are the comments and the issues.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import workflows
from local.toolchain import Toolchain, ensure
from tests.engine import github
from tests.engine.gh import BOT
from tests.engine.github import GitHub, Job
from tests.engine.harness import RECORD, Cluster, Object, Stack, wait_until
from tests.engine.test_failures import NOT_READY, is_ready
from tests.engine.test_rights import REVIEWER, Roles, applied, signed_in

ENCRYPTED = "canary-value-5up3rc4l1fr4g1l1st1c"
"""A Helm value that its owner has encrypted."""

PLAIN = "canary-t0ken-in-plain-text"
"""One that he hasn't, though its name says that it is secret."""

PULL = 7
CONFIG = "/api/v1/namespaces/kube-system/configmaps/cilium-config"
NODE_3 = "/api/v1/nodes/node-3"


@dataclass
class Team:
    """A team's repository and its two stacks.

    Attributes:
        secrets: by GitHub environment.
        canaries: words that must be in nothing that anybody reads.
    """

    github: GitHub
    stacks: dict[str, Stack]
    secrets: dict[str, dict[str, str]]
    canaries: dict[str, str] = field(default_factory=dict)

    def preview(self, stack: str) -> tuple[Job, Job]:
        jobs = github.workflow("preview")["jobs"]
        event = {"github.event.pull_request.number": str(PULL), "github.event.pull_request.head.sha": "f00dfeed"}
        return self.job(jobs["preview"], stack, event), self.job(jobs["comment"], stack, event)

    def up(self, stack: str) -> Job:
        return self.job(github.workflow("up")["jobs"][stack], stack, {})

    def look(self, stack: str) -> tuple[Job, Job]:
        jobs = github.workflow("drift")["jobs"]
        event = {"github.sha": "cafecafe"}
        return self.job(jobs["look"], stack, event), self.job(jobs["issue"], stack, event)

    def job(self, job: Mapping[str, Any], stack: str, event: Mapping[str, str]) -> Job:
        its = self.stacks[stack]
        own = ("KUBECONFIG", "PULUMI_DEBUG_COMMANDS", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE")
        environment = str(job.get("environment", "")).replace("${{ matrix.stack }}", stack)
        secrets = self.secrets.get(environment, {})
        # a job that checks nothing out begins in an empty folder
        programs = any(str(step.get("uses", "")).startswith("actions/checkout") for step in job["steps"])
        workspace = its.project if programs else its.folder / "elsewhere"
        workspace.mkdir(exist_ok=True)
        return github.run(
            self.github,
            job,
            workspace=workspace,
            machine={name: value for name, value in its.environ().items() if name not in own},
            contexts={
                "matrix.stack": stack,
                "github.token": "ghs_canary",
                "vars.PULUMI_BACKEND_URL": f"file://{its.backend}",
                **{f"secrets.{name}": value for name, value in secrets.items()},
                **event,
            },
            temporary=its.folder / "runner",
        )

    def comment(self, stack: str) -> str:
        (body,) = [its["body"] for its in self.github.comments if its["body"].startswith(mark("preview", stack))]
        return str(body)


def mark(kind: str, stack: str) -> str:
    return f"<!-- kube-proxy-replacement: {kind} of {stack} -->"


@pytest.fixture(scope="module")
def team(cluster: Cluster, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Team:
    folder = tmp_path_factory.mktemp("team")
    applied(cluster, Roles("preview.yaml"))
    reviewer = signed_in(cluster, folder, REVIEWER, "reviewers").read_text()
    prod = Stack(toolchain, folder / "prod", None, name="prod").create()
    dev = Stack(toolchain, folder / "dev", None, name="dev").create()
    for stack, mode in ((prod, "coexist"), (dev, "replace")):
        for key, value in {"chart": str(toolchain.cilium_chart), "mode": mode, "timeoutSeconds": 60}.items():
            stack.config(key, value)
    dev.config("values.podAnnotations.canary", ENCRYPTED, secret=True, path=True)
    passphrase = prod.environ()["PULUMI_CONFIG_PASSPHRASE"]
    key = yaml.safe_load(reviewer)["users"][0]["user"]["client-key-data"]
    return Team(
        GitHub(folder / "github"),
        {"prod": prod, "dev": dev},
        {
            "dev-preview": {"KUBECONFIG": reviewer, "PULUMI_CONFIG_PASSPHRASE": passphrase},
            "prod-preview": {"KUBECONFIG": reviewer, "PULUMI_CONFIG_PASSPHRASE": passphrase},
            "prod": {"KUBECONFIG": cluster.kubeconfig.read_text(), "PULUMI_CONFIG_PASSPHRASE": passphrase},
        },
        {
            "an encrypted value": ENCRYPTED,
            "a token in plain text": PLAIN,
            "the passphrase": passphrase,
            "the kubeconfig's key": key[:60],
            "the key in it": base64.b64decode(key).decode()[40:90],
            "GitHub's token": "ghs_canary",
        },
    )


# The pull requests


@dataclass(frozen=True)
class Story:
    """What was read on the way.

    Attributes:
        dev: the comment on a stack's first run, with encrypted values.
        refused, agreed: the comment on prod after the first and the second push.
        pods: the agents' UIDs by node, before and after the merge.
        jobs: every job, by what it was.
        issues: the open issues, at each look.
    """

    jobs: dict[str, Job]
    dev: str
    refused: str
    agreed: str
    comments: list[Object]
    pods: tuple[dict[str, str], dict[str, str]]
    rules: dict[str, int]
    uncleaned: list[str]
    proxies: list[str]
    issues: dict[str, list[Object]]


@pytest.fixture(scope="module")
def story(cluster: Cluster, team: Team) -> Story:
    jobs: dict[str, Job] = {}
    issues: dict[str, list[Object]] = {}
    prod, hub = team.stacks["prod"], team.github

    def did(what: str, *done: Job) -> None:
        jobs.update({f"{what} {number}": job for number, job in enumerate(done)})

    hub.put("comments", {"id": 1, "pull": PULL, "body": "LGTM", "user": {"login": "joe"}, "edits": 0})
    forged = {"id": 2, "pull": PULL, "body": mark("preview", "prod"), "user": {"login": "mallory"}, "edits": 0}
    hub.put("comments", forged)
    hub.put("issues", {"number": 1, "body": None, "state": "open", "user": {"login": BOT}, "edits": 0})
    did("first run", *team.preview("dev"))
    dev = team.comment("dev")
    did("up to coexist", team.up("prod"))

    cluster.merge(NODE_3, {"metadata": {"labels": {NOT_READY: "true"}}})
    wait_until("node-3 isn't Ready", lambda: not is_ready(cluster.get(NODE_3)))
    prod.config("mode", "replace")
    prod.config("values", {"MTU": 1400, "podAnnotations": {"apiToken": PLAIN}})
    prod.config("apiServerHost", "10.96.0.1")
    did("a push that is refused", *team.preview("prod"))
    refused = ours(hub, "prod")
    prod.config("apiServerHost", None)
    did("a push that is agreed to", *team.preview("prod"))
    agreed, comments = ours(hub, "prod"), hub.comments

    before = agents(cluster)
    did("up to replace", team.up("prod"))
    after, rules = agents(cluster), leftover(cluster, before)
    uncleaned = json.loads((cluster.configmap(RECORD) or {})["data"]["uncleaned.json"])
    proxies = sorted(cluster.pods("k8s-app=kube-proxy"))

    def looked(what: str, *done: Job) -> None:
        did(what, *done)
        issues[what] = [its for its in hub.issues if its["number"] != 1]

    looked("all is as wanted", *team.look("prod"))
    cluster.merge(CONFIG, {"data": {"kube-proxy-replacement": "false"}})
    looked("drift", *team.look("prod"))
    looked("the same drift", team.job(github.workflow("drift")["jobs"]["issue"], "prod", {}))
    cluster.merge(NODE_3, {"metadata": {"labels": {NOT_READY: None}}})
    wait_until("node-3 is Ready", lambda: is_ready(cluster.get(NODE_3)))
    did("repair", team.up("prod"))
    looked("all is as wanted again", *team.look("prod"))
    return Story(jobs, dev, refused, agreed, comments, (before, after), rules, uncleaned, proxies, issues)


def ours(hub: GitHub, stack: str) -> str:
    (its,) = [
        each
        for each in hub.comments
        if each["user"]["login"] == BOT and each["body"].startswith(mark("preview", stack))
    ]
    return str(its["body"])


def agents(cluster: Cluster) -> dict[str, str]:
    return {node: pod["metadata"]["uid"] for node, pod in cluster.pods("k8s-app=cilium").items()}


def leftover(cluster: Cluster, nodes: Mapping[str, str]) -> dict[str, int]:
    """How many lines of kube-proxy's are in the kernels of the nodes that answer."""
    pods = cluster.pods("k8s-app=cilium")
    return {
        node: cluster.execute(pods[node]["metadata"]["name"], "iptables-save").count("KUBE-SVC-")
        for node in nodes
        if is_ready(cluster.get(f"/api/v1/nodes/{node}"))
    }


def table(page: str, heading: str) -> dict[str, list[str]]:
    """A table of a page, below a heading: by its first column's texts, the others."""
    lines = page.partition(f"#### {heading}\n")[2].partition("\n####")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return {name.strip(" `"): row[1:] for row in rows[2:] for name in row[0].split(",")}


def test_the_jobs_do_what_they_should(story: Story) -> None:
    failed = {name: (job.failed, job.text) for name, job in story.jobs.items() if job.failed}
    assert {name: its[0] for name, its in failed.items()} == {"a push that is refused 0": ["Preview"]}, failed


def test_there_is_one_comment_per_stack_and_it_is_edited(story: Story) -> None:
    its = [(each["user"]["login"], each["body"].partition("\n")[0], each["edits"]) for each in story.comments]
    assert its == [
        ("joe", "LGTM", 0),
        ("mallory", mark("preview", "prod"), 0),
        (BOT, mark("preview", "dev"), 0),
        (BOT, mark("preview", "prod"), 1),
    ]


def test_a_comment_on_what_is_refused_says_what_says_no(story: Story) -> None:
    assert "### Preview of `prod`: refused" in story.refused
    assert "#### What says no" in story.refused
    assert "apiServerHost '10.96.0.1' is the Service default/kubernetes" in story.refused
    assert "Nothing says no" not in story.refused


def test_who_reads_the_comment_alone_knows_what_happens_to_which_nodes(story: Story, cluster: Cluster) -> None:
    """From the comment's text alone, against what then happened."""
    assert "### Preview of `prod`: switch-over from kube-proxy to Cilium" in story.agreed
    assert "| Mode | `coexist` → **`replace`** |" in story.agreed
    assert "**Nothing says no.**" in story.agreed
    said = {node: text for node, (text,) in table(story.agreed, "What happens to which nodes").items()}
    assert sorted(said) == cluster.node_names
    before, after = story.pods
    loses_kube_proxy = {node for node, text in said.items() if "its kube-proxy ends" in text}
    restarts = {node for node, text in said.items() if "its agent restarts with the replacement on" in text}
    cleaned = {node for node, text in said.items() if "leftover rules are cleaned" in text}
    left_out = {node for node, text in said.items() if "isn't Ready and isn't waited for" in text}
    assert loses_kube_proxy == set(cluster.node_names) - set(story.proxies)
    assert restarts == {node for node in before if before[node] != after.get(node)}
    assert cleaned == {node for node, lines in story.rules.items() if lines == 0}
    assert left_out == {"node-3"}
    assert story.uncleaned == [cluster.uid(NODE_3)]


def test_the_comment_shows_the_values_that_differ(story: Story) -> None:
    differ = table(story.agreed, "Helm values that differ")
    assert differ["kubeProxyReplacement"] == ['`"false"`', '`"true"`']
    assert differ["MTU"] == ["not set", "`1400`"]
    assert differ["podAnnotations.apiToken"] == ["not set", "(not shown)"]
    assert "k8sServiceHost" not in differ


def test_the_comment_says_what_will_be_noticed(story: Story) -> None:
    noticed = story.agreed.partition("#### What will be noticed")[2]
    for words in (
        "shop/web-public",
        "port 10256",
        "are reset, each once",
        "1 nodes aren't Ready and are left out: node-3",
    ):
        assert words in noticed, words


def test_encrypted_values_differ_unseen(story: Story) -> None:
    assert "(this stack's first run)" in story.dev
    differ = table(story.dev, "Helm values that differ")
    assert differ == {"values": ["", "encrypted: not shown"]}
    said = table(story.dev, "What happens to which nodes")
    assert set(said) == {"node-1", "node-2", "node-3"}
    assert all("its agent starts with the replacement on" in text for (text,) in said.values())


def test_an_issue_on_drift_is_opened_once_edited_and_closed(story: Story) -> None:
    seen = {
        what: [(its["number"], its["state"], its["edits"]) for its in issues] for what, issues in story.issues.items()
    }
    assert seen == {
        "all is as wanted": [],
        "drift": [(101, "open", 0)],
        "the same drift": [(101, "open", 1)],
        "all is as wanted again": [(101, "closed", 2)],
    }


def test_the_issue_names_what_is_not_as_wanted(story: Story) -> None:
    (issue,) = story.issues["drift"]
    assert "stack prod" in issue["title"]
    wrong = issue["body"].partition("#### Not as wanted")[2]
    assert "cilium-config was edited (kube-proxy-replacement: 'false' instead of 'true')" in wrong


def test_no_secret_is_in_anything_that_anybody_reads(story: Story, team: Team) -> None:
    read = json.dumps([team.github.comments, team.github.issues], ensure_ascii=False)
    read += "".join(job.summary for job in story.jobs.values())
    read += "".join(file.read_text() for file in (team.github.folder / "artifacts").rglob("*.md"))
    assert [what for what, word in team.canaries.items() if word in read] == []
    logs = "".join(text for job in story.jobs.values() for text in job.text.values())
    # what Pulumi shows of a plain value is its own, in the log of those who may read the repository
    assert [what for what, word in team.canaries.items() if word in logs and word != PLAIN] == []


# The linter


@pytest.fixture(scope="module")
def actionlint(toolchain: Toolchain) -> Iterator[Path]:
    yield ensure(["actionlint"]).actionlint


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("needs: preview", "needs: previews", "previews"),
        ("${{ matrix.stack }}-preview", "${{ matrix.stak }}-preview", "stak"),
        ('[ -n "$ids" ]', "[ -n $ids ]", "SC2086"),
    ],
)
def test_the_linter_reads_them_and_their_shell(
    actionlint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], right: str, wrong: str, words: str
) -> None:
    file = tmp_path / "preview.yml"
    text = (github.FOLDER / "kube-proxy-replacement-preview.yml").read_text()
    assert right in text
    file.write_text(text)
    assert workflows.lint(actionlint, [file]) == 0
    file.write_text(text.replace(right, wrong))
    assert workflows.lint(actionlint, [file]) != 0
    assert words in capfd.readouterr().out
