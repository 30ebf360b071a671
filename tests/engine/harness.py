"""What the engine tests are written with: the real engine, a real API server, simulated nodes.

`Cluster` is a cluster of its own on loopback, `Stack` one person's project folder and what she runs in it, `Run` what
the engine did and said. A failing test shows the text of every run that it made (see conftest).
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

import yaml

from local.cluster import EmbeddedCluster, objects
from local.cluster.certificates import Pki
from local.toolchain import Toolchain

REPOSITORY: Final = Path(__file__).resolve().parents[2]
NAMESPACE: Final = "kube-proxy-replacement"
"""Of the settings, and the project's name."""

COMPONENT: Final = "kube-proxy-replacement"
FOUND: Final = f"{COMPONENT}-found"
HAND_OVER: Final = f"{COMPONENT}-hand-over"
DAEMONSET: Final = f"{COMPONENT}-daemonset"
CONFIGMAP: Final = f"{COMPONENT}-configmap"
CILIUM: Final = f"{COMPONENT}-cilium"
AGENTS: Final = f"{COMPONENT}-agents"
STATUS: Final = f"{COMPONENT}-status"
STEPS: Final = (FOUND, HAND_OVER, DAEMONSET, CONFIGMAP, CILIUM, AGENTS, STATUS)
"""What is done, one after the other, in the procedure's order."""

RECORD: Final = "kube-proxy-replacement"
"""The ConfigMap in kube-system that holds the backup."""

_RUN_SECONDS: Final = 240.0
_CALL_SECONDS: Final = 30.0
_SECONDS_TO_END: Final = 20.0
_POLL_SECONDS: Final = 0.1
_TRIES: Final = 3
_AGENT: Final = "engine-tests"

Object = dict[str, Any]

RUNS: Final[list[Run]] = []
"""Every run of the engine in this process, so that a failing test can show its own."""


# The engine


@dataclass(frozen=True)
class Said:
    """One message of the engine's, or of a resource's.

    Attributes:
        sequence: its place in the event log.
        resource: the resource's name, "" where it is the engine's.
        severity: `info`, `warning` or `error`.
    """

    sequence: int
    resource: str
    severity: str
    text: str


@dataclass(frozen=True)
class Step:
    """What the engine did with one resource, between two places in its event log."""

    resource: str
    type: str
    op: str
    began: int
    ended: int | None
    changed: tuple[str, ...] = ()
    """Paths of the inputs that differ."""


@dataclass
class Run:
    """One run of `pulumi`.

    Attributes:
        text: standard output and standard error, as a person sees them.
        events: the engine's event log, [] for commands that have none.
        seconds: how long it took.
    """

    command: list[str]
    exit_code: int
    text: str
    seconds: float
    events: list[Object] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def steps(self) -> list[Step]:
        """In the order in which they began; without the engine's own default providers."""
        ends = {
            (event["resOutputsEvent"]["metadata"]["urn"], event["resOutputsEvent"]["metadata"]["op"]): event["sequence"]
            for event in self.events
            if "resOutputsEvent" in event
        }
        found = []
        for event in self.events:
            metadata = event.get("resourcePreEvent", {}).get("metadata")
            if metadata is None or ("::pulumi:providers:" in metadata["urn"] and "::default" in metadata["urn"]):
                continue
            urn, op = metadata["urn"], metadata["op"]
            changed = tuple(sorted(metadata.get("detailedDiff") or metadata.get("diffs") or ()))
            found.append(Step(_name(urn), metadata["type"], op, event["sequence"], ends.get((urn, op)), changed))
        return found

    @property
    def ops(self) -> dict[str, str]:
        """By resource: `same`, `create`, `update`, `delete`, `replace`, `read` …"""
        return {step.resource: step.op for step in self.steps}

    @property
    def changes(self) -> dict[str, str]:
        """`ops` without what stays as it is; {} after a run that changed nothing."""
        return {name: op for name, op in self.ops.items() if op not in ("same", "read")}

    def step(self, resource: str) -> Step:
        return next(step for step in self.steps if step.resource == resource)

    @property
    def said(self) -> list[Said]:
        """Everything that isn't the engine's own debugging, in order."""
        return [
            Said(event["sequence"], _name(its.get("urn") or ""), its["severity"], its["message"].strip())
            for event in self.events
            if (its := event.get("diagnosticEvent")) and its["severity"] != "debug"
        ]

    def errors(self) -> str:
        """The messages of severity `error`, a line each; what a person must be able to act on."""
        return "\n".join(its.text for its in self.said if its.severity == "error")

    def notes(self) -> str:
        """The messages that are no errors, a line each."""
        return "\n".join(its.text for its in self.said if its.severity != "error")

    def report(self) -> str:
        return f"$ {' '.join(self.command)}\n(exit code {self.exit_code}, {self.seconds:.1f} s)\n{self.text}"


class Stack:
    """One person's copy of a project, and a stack in it; every run is the real CLI's.

    Args:
        folder: for all that is written: project, backend, PULUMI_HOME, temporary files.
        project: a folder with a Pulumi.yaml; without it a copy of this repository's program, so that the checkout
            isn't touched.
        kubeconfig: what the person's KUBECONFIG names; None: not set.
        backend: another stack's backend, to share its states.
        within: what a command is prefixed with to run where the API server is reached.
        strategy: the setting that `create` writes where the project is this repository's; None: it isn't said.
    """

    def __init__(
        self,
        toolchain: Toolchain,
        folder: Path,
        kubeconfig: Path | None,
        *,
        project: Path | None = None,
        name: str = "dev",
        backend: Path | None = None,
        environment: Mapping[str, str] | None = None,
        within: Callable[[Sequence[str]], list[str]] = list,
        strategy: str | None = "all-at-once",
    ) -> None:
        self.folder = folder.absolute()
        self.name = name
        self.kubeconfig = kubeconfig
        self.environment = dict(environment or {})
        self.backend = backend or self.folder / "state"
        self.project = project or copy_program(self.folder / "project")
        self._strategy = None if project else strategy
        self._toolchain = toolchain
        self._within = within
        for each in (self.backend, self.folder / "tmp", self.folder / "person"):
            each.mkdir(parents=True, exist_ok=True)
        self._home = toolchain.pulumi_home(self.folder / "home")

    def create(self) -> Stack:
        """The stack in the backend."""
        _succeeded(self.run(["stack", "init", self.name]))
        if self._strategy:
            self.config("strategy", self._strategy)
        return self

    def second(self, folder: Path, kubeconfig: Path | None) -> Stack:
        """Another person's checkout of the same project and stack, as Git would give it, on the same backend."""
        other = Stack(
            self._toolchain,
            folder,
            kubeconfig,
            name=self.name,
            backend=self.backend,
            environment=self.environment,
        )
        other.settings_file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.settings_file, other.settings_file)
        return other

    @property
    def settings_file(self) -> Path:
        """Pulumi.NAME.yaml of this project."""
        project = yaml.safe_load((self.project / "Pulumi.yaml").read_text())
        return self.project / str(project.get("stackConfigDir", ".")) / f"Pulumi.{self.name}.yaml"

    def config(self, key: str, value: Any, *, secret: bool = False, path: bool = False) -> None:
        """Sets a setting: a text, a number, a bool or (without `path`) a whole map or list.

        One that is secret, or a `path` in a map, goes through `pulumi config set`; the rest into the stack's file at
        once. `None` unsets. A key without a colon is the program's own.
        """
        full = key if ":" in key else f"{NAMESPACE}:{key}"
        if secret or path:
            options = [option for option, wanted in (("--secret", secret), ("--path", path)) if wanted]
            _succeeded(self.run(["config", "set", *options, "--stack", self.name, full], told=str(value)))
            return
        file = self.settings_file
        content = yaml.safe_load(file.read_text()) if file.exists() else {}
        settings = content.setdefault("config", {})
        settings.pop(full, None)
        if value is not None:
            settings[full] = value
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content))

    def preview(self, *options: str, fails: bool = False) -> Run:
        return self._engine(["preview", *options], fails)

    def up(self, *options: str, fails: bool = False) -> Run:
        return self._engine(["up", "--yes", "--skip-preview", *options], fails)

    def destroy(self, *options: str, fails: bool = False) -> Run:
        return self._engine(["destroy", "--yes", "--skip-preview", *options], fails)

    def outputs(self) -> Object:
        run = _succeeded(self.run(["stack", "output", "--json", "--show-secrets", "--stack", self.name]))
        parsed: Object = json.loads(run.text)
        return parsed

    def state(self) -> Object:
        """The stack's state as it lies in the backend: secrets are cipher texts."""
        run = _succeeded(self.run(["stack", "export", "--stack", self.name]))
        parsed: Object = json.loads(run.text)
        return parsed

    def _engine(self, command: list[str], fails: bool) -> Run:
        log = self.folder / "tmp" / f"events-{time.monotonic_ns()}.json"
        options = ["--stack", self.name, "--event-log", str(log)]
        run = self.run([command[0], *options, *command[1:]], log=log)
        if run.ok == fails:
            wanted = "should have failed" if fails else "failed"
            raise AssertionError(f"pulumi {command[0]} {wanted} (exit code {run.exit_code}):\n{run.text[-8000:]}")
        return run

    def run(
        self,
        arguments: Sequence[str],
        *,
        log: Path | None = None,
        told: str | None = None,
        seconds: float = _RUN_SECONDS,
    ) -> Run:
        """Any Pulumi command, never interactive; ended where it takes longer than `seconds`."""
        command = [str(self._toolchain.pulumi), *arguments, "--non-interactive", "--color", "never"]
        began = time.monotonic()
        exit_code, text = _ended(self._within(command), self.project, self.environ(), told, seconds)
        run = Run(["pulumi", *arguments], exit_code, text, time.monotonic() - began, _events(log))
        RUNS.append(run)
        return run

    def popen(self, arguments: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """A Pulumi command that goes on beside the test, never interactive, in a session of its own."""
        return subprocess.Popen(
            self._within([str(self._toolchain.pulumi), *arguments, "--non-interactive", "--color", "never"]),
            cwd=self.project,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def environ(self) -> dict[str, str]:
        """What the engine gets: the machine's environment without anybody's Pulumi, Helm or Kubernetes."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PULUMI_", "KUBE", "HELM_", "VIRTUAL_ENV", "KPR_"))
        }
        own = {
            "PATH": os.pathsep.join(
                [str(self._toolchain.pulumi.parent), str(self._toolchain.helm.parent), os.environ["PATH"]]
            ),
            "HOME": str(self.folder / "person"),
            "TMPDIR": str(self.folder / "tmp"),
            "PULUMI_HOME": str(self._home),
            "PULUMI_BACKEND_URL": f"file://{self.backend}",
            "PULUMI_CONFIG_PASSPHRASE": "not a secret",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_DEBUG_COMMANDS": "true",  # without it the CLI has no --event-log
        }
        if self.kubeconfig is not None:
            own["KUBECONFIG"] = str(self.kubeconfig)
        return kept | own | self.environment


def copy_program(to: Path) -> Path:
    """This repository's project at another path; its package is the one that is installed."""
    to.mkdir(parents=True)
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copyfile(REPOSITORY / name, to / name)
    (to / ".venv").symlink_to(sys.prefix)
    return to


def _succeeded(run: Run) -> Run:
    if not run.ok:
        raise AssertionError(run.report())
    return run


def _ended(
    command: list[str], folder: Path, environment: Mapping[str, str], told: str | None, seconds: float
) -> tuple[int, str]:
    """Exit code and text of a program; its whole process group is ended where it takes too long."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE if told is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(told, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)  # the engine cancels, and ends its plugins
        try:
            text, _ = process.communicate(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
        return -1, f"{text}\n(not within {seconds:.0f} s, ended by the test)"
    return process.returncode, text


def _events(log: Path | None) -> list[Object]:
    if log is None or not log.exists():
        return []
    return [json.loads(line) for line in log.read_text().splitlines() if line.strip()]


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


# The cluster


@dataclass(frozen=True)
class Entry:
    """One request to the API server, from its audit log.

    Attributes:
        verb: `get`, `list`, `create`, `update`, `patch`, `delete` …
        resource: `daemonsets`, `pods/exec` …; group: its API group, `apps` for one.
        began, ended: RFC 3339 in UTC with microseconds, so that they compare as texts.
        uri: path and query.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    user: str
    agent: str
    code: int
    began: str
    ended: str
    uri: str
    group: str = ""

    @property
    def dry(self) -> bool:
        return "dryRun=" in self.uri

    @property
    def changes(self) -> bool:
        """Whether it has changed something: no dry run, no `create` that asks for one's rights, not the lock."""
        if self.dry or self.resource in ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "pods/exec", "leases"):
            return False
        return self.verb in ("create", "update", "patch", "delete", "deletecollection") and self.code < 300

    @property
    def by_person(self) -> bool:
        """By the person whose kubeconfig the stack has, so by our program or Helm; not by a controller or a node."""
        return self.user == "kubernetes-admin"

    def __str__(self) -> str:
        return f"{self.began} {self.verb} {self.resource} {self.namespace}/{self.name} by {self.user} ({self.code})"


class Cluster:
    """A cluster of its own, with nodes `node-1` … `node-3` unless told otherwise."""

    def __init__(self, toolchain: Toolchain, folder: Path, nodes: int = 3) -> None:
        self._embedded = EmbeddedCluster(folder, toolchain, nodes=nodes)
        self._kubectl = toolchain.kubectl
        self.node_names = [f"node-{number}" for number in range(1, nodes + 1)]
        self.said: list[str] = []

    def start(self) -> Cluster:
        self._embedded.start(self.said.append)
        wait_until("kube-proxy routes on every node", self._kube_proxy_routes)
        return self

    def _kube_proxy_routes(self) -> bool:
        return sum(1 for text in self.kernels().values() if "KUBE-SVC-" in text) == len(self.node_names)

    def remove(self) -> None:
        self._embedded.remove(self.said.append)

    @property
    def kubeconfig(self) -> Path:
        return self._embedded.kubeconfig

    def pki(self) -> Pki:
        return self._embedded.pki()

    def join(self, number: int) -> None:
        """One more node comes, as its kubelet registers it."""
        its = self.get(f"/api/v1/nodes/{self.node_names[0]}")["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        self._embedded.api().create(objects.node(number, its))

    @property
    def host(self) -> str:
        return self._embedded.server.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self._embedded.server.rpartition(":")[2])

    # Objects

    def find(self, path: str) -> Object | None:
        """What is at a path of the API, or None."""
        status, body = self._call("GET", path)
        return None if status == http.HTTPStatus.NOT_FOUND else self._done(status, body, f"GET {path}")

    def get(self, path: str) -> Object:
        status, body = self._call("GET", path)
        return self._done(status, body, f"GET {path}")

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self.get(path)["items"]
        return found

    def create(self, collection: str, thing: Object) -> Object:
        return self._done(*self._call("POST", collection, thing), f"POST {collection}")

    def merge(self, path: str, change: Object) -> Object:
        """A merge patch."""
        return self._done(*self._call("PATCH", path, change), f"PATCH {path}")

    def delete(self, path: str) -> None:
        """What isn't there stays away."""
        status, body = self._call("DELETE", path)
        if status != http.HTTPStatus.NOT_FOUND:
            self._done(status, body, f"DELETE {path}")

    def uid(self, path: str) -> str:
        return str(self.get(path)["metadata"]["uid"])

    def configmap(self, name: str, namespace: str = "kube-system") -> Object | None:
        return self.find(f"/api/v1/namespaces/{namespace}/configmaps/{name}")

    def daemonset(self, name: str, namespace: str = "kube-system") -> Object | None:
        return self.find(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}")

    def pods(self, label: str, namespace: str = "kube-system") -> dict[str, Object]:
        """The pods with a label, `KEY=VALUE`, by their node's name."""
        items = self.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector={label.replace('=', '%3D')}")
        return {pod["spec"].get("nodeName", ""): pod for pod in items}

    def annotate(self, node: str, fault: str, value: str | None = "true") -> None:
        """Makes something fail on a node, such as `agent-stuck` (local/go/node-simulator); None mends it."""
        self.merge(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {f"simulator/{fault}": value}}})

    def execute(self, pod: str, *command: str, container: str = "", namespace: str = "kube-system") -> str:
        """Standard output of a program in a pod."""
        where = ["--kubeconfig", str(self.kubeconfig), "-n", namespace, "exec", pod]
        if container:
            where += ["-c", container]
        for _ in range(_TRIES):
            done = subprocess.run(
                [str(self._kubectl), *where, "--", *command],
                env=os.environ | {"KUBECACHEDIR": str(self.kubeconfig.parent / "kubectl")},
                capture_output=True,
                text=True,
                timeout=_CALL_SECONDS,
                check=False,
            )
            # kubectl drops what comes before it has made its streams: seen once on a machine that was busy
            if "Unknown stream id" not in done.stderr:
                break
        assert done.returncode == 0, f"{' '.join(command)} in {pod}: {done.stderr}"
        return done.stdout

    def kernels(self) -> dict[str, str]:
        """By node, what `iptables-save` prints there, in an agent if there is one, else in kube-proxy's pod.

        Nodes without either are left out.
        """
        readers = {**self.pods("k8s-app=kube-proxy"), **self.pods("k8s-app=cilium")}
        return {node: self.execute(pod["metadata"]["name"], "iptables-save") for node, pod in sorted(readers.items())}

    def objects(self) -> dict[str, Object]:
        """Every object of every resource that can be listed, by «KIND NAMESPACE/NAME»; see `compared`."""
        found: dict[str, Object] = {}
        with self._connection() as connection:

            def get(path: str) -> Object:
                return self._done(*_answer(connection, "GET", path), f"GET {path}")

            for path, kind in _collections(get):
                for item in get(path)["items"]:
                    metadata = item["metadata"]
                    found[f"{kind} {metadata.get('namespace', '')}/{metadata['name']}"] = item
        return found

    def wait_until_uninstalled(self) -> None:
        """After Helm's uninstall: what the API server goes on ending is ended."""
        wait_until("the chart's namespace is gone", lambda: self.find("/api/v1/namespaces/cilium-secrets") is None)

    # What was asked of it

    def mark(self) -> int:
        """This moment in the audit log."""
        return self._embedded.audit_log.stat().st_size

    def audit(self, since: int, until: int | None = None) -> list[Entry]:
        """The requests between two marks, in the order in which they began.

        Every request of the stack's is there, and every change of a controller's or a node's; not their reads, not
        what is done with events, or with leases out of kube-system, nor what the tests do themselves (who are heard a
        moment late).
        """
        with self._embedded.audit_log.open("rb") as stream:
            stream.seek(since)
            text = stream.read() if until is None else stream.read(until - since)
        # an exec is there twice: when it begins, and when it ends
        entries = {raw["auditID"]: _entry(raw) for raw in _others(text.splitlines())}
        return sorted(entries.values(), key=lambda entry: entry.began)

    def follow(self) -> Callable[[], list[Entry]]:
        """From now on: what has come into the audit log since the last call. A request is there before its answer."""
        stream, rest = self._embedded.audit_log.open("rb"), b""
        stream.seek(0, os.SEEK_END)

        def more() -> list[Entry]:
            nonlocal rest
            *lines, rest = (rest + stream.read()).split(b"\n")
            return [_entry(raw) for raw in _others(lines)]

        return more

    # What happens to it

    def without_api_server(self, seconds: float) -> None:
        """Its API server is killed, and starts again after some seconds."""
        self._embedded.kill("kube-apiserver")
        time.sleep(seconds)  # that it takes long is what is tried
        self._embedded.revive()

    def power_cut(self) -> None:
        """All of it is killed at once, and started again: its nodes are rebooted."""
        self._embedded.kill()
        self._embedded.start(self.said.append)

    # The connection

    def _done(self, status: int, body: bytes, what: str) -> Object:
        assert status < http.HTTPStatus.BAD_REQUEST, f"{what}: {status} {body.decode(errors='replace')[:500]}"
        parsed: Object = json.loads(body)
        return parsed

    def _call(self, method: str, path: str, body: Object | None = None) -> tuple[int, bytes]:
        with self._connection() as connection:
            return _answer(connection, method, path, body)

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPSConnection]:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=_CALL_SECONDS, context=self._tls())
        try:
            yield connection
        finally:
            connection.close()

    def _tls(self) -> ssl.SSLContext:
        content = yaml.safe_load(self.kubeconfig.read_text())
        user, cluster = content["users"][0]["user"], content["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        pair = self.kubeconfig.with_name("engine-tests.pem")
        if not pair.exists():
            pair.touch(mode=0o600)
            parts = (user["client-certificate-data"], user["client-key-data"])
            pair.write_bytes(b"".join(base64.b64decode(part) for part in parts))
        context.load_cert_chain(pair)
        return context


def _answer(
    connection: http.client.HTTPSConnection, method: str, path: str, body: Object | None = None
) -> tuple[int, bytes]:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Accept": "application/json", "Content-Type": kind, "User-Agent": _AGENT}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def _collections(get: Callable[[str], Object]) -> Iterator[tuple[str, str]]:
    """The path and the kind of everything that can be listed, in each group's preferred version."""
    roots = [f"/api/{version}" for version in get("/api")["versions"]]
    roots += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in get("/apis")["groups"]]
    for root in roots:
        group = root.removeprefix("/apis/").rpartition("/")[0] if root.startswith("/apis/") else ""
        for resource in get(root)["resources"]:
            if "list" in resource["verbs"]:
                kind = resource["kind"]
                yield f"{root}/{resource['name']}", f"{kind}.{group}" if group else kind


def _others(lines: Iterable[bytes]) -> Iterator[Object]:
    """The audit log's lines, without what the tests do themselves."""
    for raw in map(json.loads, lines):
        if not raw.get("userAgent", "").startswith((_AGENT, "kubectl")):
            yield raw


def _entry(raw: Object) -> Entry:
    reference = raw.get("objectRef") or {}
    sub = reference.get("subresource", "")
    return Entry(
        verb=raw["verb"],
        resource=f"{reference.get('resource', '')}/{sub}" if sub else reference.get("resource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        user=raw["user"]["username"],
        agent=raw.get("userAgent", ""),
        code=raw.get("responseStatus", {}).get("code", 0),
        began=raw["requestReceivedTimestamp"],
        ended=raw["stageTimestamp"],
        uri=raw["requestURI"],
        group=reference.get("apiGroup", ""),
    )


def picked(entries: Iterable[Entry], verbs: str, resource: str, name: str = "*") -> list[Entry]:
    """The requests that went well with one of some verbs on one resource, in order.

    Args:
        verbs: one or several, such as `create patch`.
        name: of the object, `*` and `?` stand for letters. A `create` of a pod that an owner names has none.
    """
    return [
        entry
        for entry in entries
        if entry.verb in verbs.split()
        and entry.resource == resource
        and fnmatchcase(entry.name, name)
        and entry.code < http.HTTPStatus.BAD_REQUEST
        and not entry.dry
    ]


def in_order(*acts: tuple[str, Sequence[Entry]]) -> None:
    """Asserts that there are requests for each act, and that all of one have ended before the next one's begin."""
    for what, entries in acts:
        assert entries, f"no request for: {what}"
    for (earlier, before), (later, after) in pairwise(acts):
        last, first = max(before, key=lambda entry: entry.ended), min(after, key=lambda entry: entry.began)
        assert last.ended <= first.began, f"«{later}» began before «{earlier}» had ended:\n  {last}\n  {first}"


def changes_by_person(entries: Iterable[Entry]) -> list[str]:
    """What the stack has changed in the cluster, a line each; [] where nothing."""
    return [str(entry) for entry in entries if entry.by_person and entry.changes]


def compared(before: Mapping[str, Object], after: Mapping[str, Object]) -> dict[str, str]:
    """By «KIND NAMESPACE/NAME», how two `objects()` differ: `came`, `went`, `made anew` or the paths that changed.

    What a living cluster writes by itself isn't looked at: events, leases, the status of nodes, pods and DaemonSets,
    and what the API server notes of each object.
    """
    old, new = _lasting(before), _lasting(after)
    found = dict.fromkeys(old.keys() - new.keys(), "went") | dict.fromkeys(new.keys() - old.keys(), "came")
    for key in old.keys() & new.keys():
        paths = list(_paths(_content(key, old[key]), _content(key, new[key])))
        if paths:
            found[key] = ", ".join(paths)
        elif old[key]["metadata"].get("uid") != new[key]["metadata"].get("uid"):
            found[key] = "made anew"
    return dict(sorted(found.items()))


_ALIVE: Final = ("Event ", "Event.events.k8s.io ", "Lease.coordination.k8s.io ", "ComponentStatus ")
_OPERATORS: Final = (
    "CustomResourceDefinition.apiextensions.k8s.io /ciliumnodeconfigs.cilium.io",
    "APIService.apiregistration.k8s.io /v2.cilium.io",
    "APIService.apiregistration.k8s.io /v2alpha1.cilium.io",
)
"""What Cilium's operator registers when it starts, and nobody takes away: an uninstall leaves it."""
_STATUS_MOVES: Final = ("Node ", "Pod ", "DaemonSet.apps ", "Deployment.apps ", "ReplicaSet.apps ")
_COUNTERS: Final = ("deprecated.daemonset.template.generation", "deployment.kubernetes.io/revision")
_SERVER_SIDE: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")


def _lasting(objects: Mapping[str, Object]) -> dict[str, Object]:
    return {key: item for key, item in objects.items() if not key.startswith(_ALIVE) and key not in _OPERATORS}


def _content(key: str, item: Object) -> Object:
    """What somebody has written: not what the API server notes, nor when a kubelet or a pod has last been seen."""
    metadata = {name: value for name, value in item["metadata"].items() if name not in _SERVER_SIDE}
    annotations = metadata.pop("annotations", {})
    metadata["annotations"] = {name: value for name, value in annotations.items() if name not in _COUNTERS}
    left_out = ("metadata", "status") if key.startswith(_STATUS_MOVES) else ("metadata",)
    return {name: value for name, value in item.items() if name not in left_out} | {"metadata": metadata}


def _paths(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _paths(old.get(key), new.get(key), f"{at}.{key}" if at else str(key))
    elif old != new:
        yield at


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """What goes on in a thread of its own until the block ends, of which the event tells it."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_until(
    what: str, condition: Callable[[], bool], seconds: float = 30.0, *, pause: float = _POLL_SECONDS
) -> None:
    """Looks until it is so. A look that fails (a container that hasn't started yet) says that it isn't so yet."""
    deadline, failure = time.monotonic() + seconds, ""
    while True:
        try:
            if condition():
                return
        except AssertionError as error:
            failure = f"; the last look failed: {error}"
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}{failure}"
        time.sleep(pause)
