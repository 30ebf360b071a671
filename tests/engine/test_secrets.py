"""What is secret, looked for wherever a run leaves anything: planted words that must be nowhere.

The kubeconfig's token, key and CA, and Helm values that their owner has encrypted. Pulumi's own `-v=9` shows inputs, as
the README says.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from local.toolchain import Toolchain
from tests.engine.conftest import NewStack
from tests.engine.harness import Cluster, Object, Run, Stack, wait_until
from tests.engine.test_drift import helm, rolled_out
from tests.engine.test_refusals import account

_VALUE = "canary-value-5up3rc4l1fr4g1l1st1c"
"""Encrypted by its owner, as `pulumi config set --secret --path` does."""

_LOUD = ("--logtostderr", "--logflow", "-v=8")
"""As much as Pulumi says below -v=9, of the engine and of its plugins."""


class ProcessList:
    """The command lines of all processes, as everybody on the machine can read them, looked at all the while."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> ProcessList:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ends.wait(0.02):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it has ended
                    self.seen.add(process.read_bytes())


@dataclass
class Life:
    """One stack's life with secrets in it.

    Attributes:
        canaries: the words, by what they are.
        runs: by what was done.
        left: the files that were there afterwards, outside of the stack's encrypted state.
        processes: every command line that was seen meanwhile.
    """

    stack: Stack
    canaries: dict[str, str]
    runs: dict[str, Run]
    processes: set[bytes]
    plain_outputs: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module", params=["own", "adopted"])
def life(request: pytest.FixtureRequest, lives: dict[str, Life]) -> Life:
    return lives[request.param]


@pytest.fixture(scope="module")
def lives(
    cluster: Cluster, toolchain: Toolchain, new_stack: NewStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Life]]:
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    with account(cluster, tmp_path_factory.mktemp("account"), "canary", everything) as file:
        own = lived(cluster, new_stack, file)
        wait_until("cilium-secrets is gone", lambda: cluster.find("/api/v1/namespaces/cilium-secrets") is None)
        yield {"own": own, "adopted": adopted(cluster, toolchain, new_stack, tmp_path_factory.mktemp("owner"))}


def adopted(cluster: Cluster, toolchain: Toolchain, new_stack: NewStack, folder: Path) -> Life:
    """An owner's Cilium, with secrets among his values that nobody has marked; the kubeconfig is the ambient one."""
    _, canaries = planted(cluster, cluster.kubeconfig)
    values = {
        "ipam": {"mode": "kubernetes"},
        "podAnnotations": {"password": _VALUE},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": f"http://cilium:{_VALUE}@proxy.example:3128"}],
    }
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    chart, more = str(toolchain.cilium_chart), ("--namespace", "kube-system", "--values", str(folder / "values.yaml"))
    helm(cluster, toolchain, "install", "cilium", chart, *more)
    wait_until("the owner's agents are ready", lambda: rolled_out(cluster), 60)
    stack = new_stack(cluster, mode="coexist", timeoutSeconds=60)
    with ProcessList() as processes:
        runs = {
            "first preview, loud": stack.preview("--diff", *_LOUD),
            "first up, loud": stack.up(*_LOUD),
        }
        outputs = stack.run(["stack", "output", "--json", "--stack", stack.name]).text
        state = stack.state()
        runs["destroy, loud"] = stack.destroy(*_LOUD)
    return Life(stack, canaries, runs, processes.seen, outputs, left_by(stack, state))


def lived(cluster: Cluster, new_stack: NewStack, file: Path) -> Life:
    kubeconfig, canaries = planted(cluster, file)
    stack = new_stack(None, mode="coexist", timeoutSeconds=60)
    stack.config("kubeconfig", kubeconfig, secret=True)
    stack.config("values.podAnnotations.canary", _VALUE, secret=True, path=True)
    stack.config("values.extraConfig.canary", _VALUE, secret=True, path=True)
    runs = {}
    with ProcessList() as processes:
        runs["first preview"] = stack.preview("--diff")
        runs["first up, loud"] = stack.up(*_LOUD)
        outputs = stack.run(["stack", "output", "--json", "--stack", stack.name]).text
        cluster.merge("/api/v1/namespaces/kube-system/configmaps/cilium-config", {"data": {"canary": "another"}})
        runs["preview of drift, loud"] = stack.preview("--diff", *_LOUD)
        runs["repair"] = stack.up("--diff")
        stack.config("values.kubeProxyReplacement", _VALUE, secret=True, path=True)
        runs["a value against the mode"] = stack.preview(fails=True)
        runs["a value against the mode, loud"] = stack.preview(*_LOUD, fails=True)
        stack.run(
            ["config", "rm", "--path", "kube-proxy-replacement:values.kubeProxyReplacement", "--stack", stack.name]
        )
        # the chart quotes this one as it refuses it
        stack.config("values.identityAllocationMode", _VALUE, secret=True, path=True)
        stack.config("values.clustermesh.useAPIServer", "true", path=True)
        stack.config("values.clustermesh.apiserver.kvstoremesh.enabled", "false", path=True)
        runs["a value that can't be rendered"] = stack.preview(fails=True)
        state = stack.state()
        runs["destroy, loud"] = stack.destroy(*_LOUD)
    return Life(stack, canaries, runs, processes.seen, outputs, left_by(stack, state))


def left_by(stack: Stack, state: Object) -> dict[str, bytes]:
    """All files of a person's: project, backend, home, temporary ones."""
    files = [path for path in stack.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): path.read_bytes() for path in files} | {"state, exported": json.dumps(state).encode()}


def planted(cluster: Cluster, file: Path) -> tuple[str, dict[str, str]]:
    """A kubeconfig with a token, a key and a CA; and the words of each that must not be seen."""
    content = yaml.safe_load(file.read_text())
    admin = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]
    content["users"].append({"name": "other", "user": admin["user"]})
    token = content["users"][0]["user"].get("token")
    key = admin["user"]["client-key-data"]
    authority = content["clusters"][0]["cluster"]["certificate-authority-data"]
    return yaml.safe_dump(content, width=100_000), {
        **({"token": token} if token else {}),
        "client key": key,
        "client key, as PEM": body(key),
        "CA": authority,
        "CA, as PEM": body(authority),
        "value": _VALUE,
        "value, base64": base64.b64encode(_VALUE.encode()).decode().rstrip("=")[:-1],
    }


def body(pem: str) -> str:
    """The first line of what a PEM holds."""
    return base64.b64decode(pem).decode().splitlines()[1]


def found(text: str | bytes, canaries: dict[str, str]) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [name for name, word in canaries.items() if word.encode() in data]


def test_nothing_is_in_what_a_run_says(life: Life) -> None:
    assert {name: seen for name, run in life.runs.items() if (seen := found(run.text, life.canaries))} == {}


def test_nothing_is_in_an_event_log(life: Life) -> None:
    logs = {name: json.dumps(run.events) for name, run in life.runs.items()}
    assert all(len(log) > 1000 for log in logs.values())
    assert {name: seen for name, log in logs.items() if (seen := found(log, life.canaries))} == {}


def test_nothing_is_in_an_output(life: Life) -> None:
    assert json.loads(life.plain_outputs)["kubeProxyReplacement"] == "False"
    assert json.loads(life.plain_outputs)["release"]["status"] == "deployed"
    assert found(life.plain_outputs, life.canaries) == []


def test_nothing_is_in_a_file(life: Life) -> None:
    """The state and its history, the stack's settings, PULUMI_HOME, what temporary files are left."""
    assert any("/.pulumi/stacks/" in name for name in life.files)
    left = {name: seen for name, data in life.files.items() if (seen := found(data, life.canaries))}
    assert {name: seen for name, seen in left.items() if not is_the_plugins(name)} == {}


def is_the_plugins(name: str) -> bool:
    """The Kubernetes plugin's own copy of a kubeconfig that it is given as content, for its owner alone.

    It never removes it (pulumi-kubernetes, writeKubeconfigToFile in util.go). The README says so, and what to do.
    """
    return re.fullmatch(r"kubeconfig\d+", Path(name).name) is not None and Path(name).stat().st_mode & 0o777 == 0o600


def test_nothing_is_in_the_process_list(life: Life) -> None:
    assert any(b"kube_proxy_replacement.run" in line for line in life.processes), "no step was seen"
    assert [line for line in life.processes if found(line, life.canaries)] == []
