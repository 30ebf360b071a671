"""A stand-in for `cluster.api.Api` with a dict for a cluster, and builders for the objects in it.

Nothing here knows what the program does: it stores, lists, and counts.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import ApiError, ProcedureError
from kube_proxy_replacement.cluster.exec import ExecResult

Object = dict[str, Any]
ExecHandler = Callable[[str, str, str, Sequence[str]], ExecResult]

SAMPLES = Path(__file__).parent / "samples"


class FakeApi(Api):
    """Objects by path (`/api/v1/namespaces/kube-system/configmaps/kube-proxy`), with Api's methods.

    Attributes:
        objects: path → object; an object's collection is its path without the last word, and for
            namespaced ones also the collection over all namespaces.
        collections: path → list of objects, for tests that only want a list to be answered.
        errors: (method, path) → the error to raise; the method is that of HTTP («LIST» for lists).
        calls: what was asked, in order, as (method, path).
        allowed: what `may` answers: a bool, or a function of (verb, resource, keywords); never asked for «*».
        on_exec: what `exec` answers; of an agent's one line it is asked program by program, as the shell would.
        on_call: is told (method, path) before each answer; the place for a controller that changes `objects`.
        on_evict: what an eviction of this pod is answered: an error, or None: it goes, at once where nothing holds it
            (a finalizer).
        logs: by pod, container, and whether it is the log of the run before this one.
        bodies: what was sent, in order, as (method, path, body).
    """

    def __init__(
        self,
        objects: Mapping[str, Object] | None = None,
        collections: Mapping[str, list[Object]] | None = None,
    ) -> None:
        self.objects: dict[str, Object] = dict(objects or {})
        self.collections: dict[str, list[Object]] = dict(collections or {})
        self.errors: dict[tuple[str, str], ProcedureError] = {}
        self.calls: list[tuple[str, str]] = []
        self.allowed: bool | Callable[..., bool] = True
        self.on_exec: ExecHandler = lambda *_: ExecResult("", "", 0)
        self.on_call: Callable[[str, str], None] = lambda *_: None
        self.on_evict: Callable[[Object], ApiError | None] = lambda _: None
        self.bodies: list[tuple[str, str, Object]] = []
        self.logs: dict[tuple[str, str, bool], str] = {}
        self._versions = count(1001)

    def beside(self, *, patience: float | None = None, timeout: tuple[float, float] | None = None) -> Api:
        other = copy.copy(self)
        other.guard = None
        return other

    @property
    def server(self) -> str:
        return "https://10.0.0.1:6443"

    def put(self, *objects: Object) -> FakeApi:
        """Stores objects under the path that their kind, namespace and name give."""
        for body in objects:
            self.objects[path_of(body)] = body
        return self

    def get(self, path: str, **query: str) -> Object:
        self._called("GET", path)
        if path not in self.objects:
            raise self._error("GET", path, 404, "NotFound")
        return copy.deepcopy(self.objects[path])

    def find(self, path: str, **query: str) -> Object | None:
        try:
            return self.get(path, **query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, path: str, **query: str) -> list[Object]:
        self._called("LIST", path)
        if path in self.collections:
            found = self.collections[path]
        else:
            found = [body for at, body in sorted(self.objects.items()) if path in _collections(at)]
        wanted = query.get("labelSelector", "")
        fields = query.get("fieldSelector", "")
        if wanted.count("(") != wanted.count(")"):
            raise self._error("GET", path, 400, "BadRequest")
        return [copy.deepcopy(body) for body in found if _labelled(body, wanted) and _has(body, fields)]

    def create(self, path: str, body: Object) -> Object:
        self._called("POST", path, body)
        if path.endswith("/eviction"):
            return self._evict(path, body)
        name = (body.get("metadata") or {}).get("name")
        if not name:  # a review: nothing is stored
            return copy.deepcopy(body)
        if f"{path}/{name}" in self.objects:
            raise self._error("POST", path, 409, "AlreadyExists")
        return self._store(f"{path}/{name}", body)

    def replace(self, path: str, body: Object) -> Object:
        self._called("PUT", path, body)
        old = self.objects.get(path)
        if old is None:
            raise self._error("PUT", path, 404, "NotFound")
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != (old.get("metadata") or {}).get("resourceVersion"):
            raise self._error("PUT", path, 409, "Conflict")
        return self._store(path, body)

    def merge(self, path: str, body: Object) -> Object:
        self._called("PATCH", path, body)
        if path not in self.objects:
            raise self._error("PATCH", path, 404, "NotFound")
        wanted = (body.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != self.objects[path]["metadata"].get("resourceVersion"):
            raise self._error("PATCH", path, 409, "Conflict")
        return self._store(path, _merged(self.objects[path], body))

    def delete(self, path: str, *, uid: str | None = None, grace_seconds: int | None = None) -> bool:
        self._called("DELETE", path)
        found = self.objects.get(path)
        if found is None or (uid and found["metadata"].get("uid") != uid):
            return False
        del self.objects[path]
        return True

    def may(self, verb: str, resource: str, **where: str) -> bool:
        self._called("MAY", f"{verb} {resource}")
        if isinstance(self.allowed, bool):
            return self.allowed
        return verb != "*" and self.allowed(verb, resource, **where)

    def exec(self, namespace: str, pod: str, container: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        self._called("EXEC", f"{namespace}/{pod}/{container}: {' '.join(command)}")
        if command[0] == "sh":
            return shell(command[2], lambda words: self.on_exec(namespace, pod, container, words))
        return self.on_exec(namespace, pod, container, command)

    def log(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        self._called("GET", path)
        return self.logs.get((pod, container, previous), "")

    def at(self, method: str, path: str) -> int:
        """When this was first called: its place in `calls`. Fails where it never was."""
        return self.calls.index((method, path))

    def changes(self) -> list[tuple[str, str]]:
        """The calls that change something, in order; reviews of rights aren't among them."""
        return [call for call in self.calls if call[0] in ("POST", "PUT", "PATCH", "DELETE")]

    def _called(self, method: str, path: str, body: Object | None = None) -> None:
        self.calls.append((method, path))
        if body is not None:
            self.bodies.append((method, path, copy.deepcopy(body)))
        if self.guard and method in ("POST", "PUT", "PATCH", "DELETE") and "dryRun=" not in path:
            self.guard()
        self.on_call(method, path)
        if (method, path) in self.errors:
            raise self.errors[method, path]

    def _evict(self, path: str, body: Object) -> Object:
        pod = self.objects.get(path.removesuffix("/eviction"))
        if pod is None:
            raise self._error("POST", path, 404, "NotFound")
        if body["deleteOptions"]["preconditions"]["uid"] != pod["metadata"]["uid"]:
            raise self._error("POST", path, 409, "Conflict")
        if error := self.on_evict(pod):
            raise error
        if pod["metadata"].get("finalizers"):
            pod["metadata"]["deletionTimestamp"] = "2026-11-24T02:00:00Z"
        else:
            del self.objects[path.removesuffix("/eviction")]
        return {"kind": "Status", "status": "Success"}

    def _store(self, path: str, body: Object) -> Object:
        version = str(next(self._versions))
        stored = copy.deepcopy(body)
        metadata = stored.setdefault("metadata", {})
        metadata["resourceVersion"] = version
        old = self.objects.get(path)
        metadata["uid"] = old["metadata"].get("uid", "") if old else f"uid-{version}"
        self.objects[path] = stored
        return copy.deepcopy(stored)

    def _error(self, method: str, path: str, status: int, reason: str) -> ApiError:
        return ApiError(f"{method} {path}: {status} {reason}", status=status, reason=reason)


class Clock:
    """A stand-in for the module `time` of one module (`monkeypatch.setattr(waiting, "time", clock)`): nobody sleeps.

    Attributes:
        now: the time; sleeping moves it.
        pace: how many seconds a second of sleep takes, for tests that would look too often.
        on_sleep: is told the time after each sleep; the place for a world that goes on meanwhile.
    """

    def __init__(self, pace: float = 1) -> None:
        self.now = 1000.0
        self.start = self.now
        self.pace = pace
        self.on_sleep: Callable[[float], None] = lambda _: None

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds * self.pace
        self.on_sleep(self.now - self.start)

    @property
    def passed(self) -> float:
        """Seconds since the clock was made."""
        return self.now - self.start


def forbidden(path: str) -> ApiError:
    return ApiError(f"GET {path}: 403 not allowed", status=403, reason="Forbidden")


def path_of(body: Object) -> str:
    """The path of an object that says its apiVersion and kind."""
    version, kind = body["apiVersion"], body["kind"].lower()
    plural = kind + "es" if kind.endswith(("s", "x")) else kind + "s"
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = body["metadata"].get("namespace")
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{middle}/{plural}/{body['metadata']['name']}"


def made(kind: str, name: str, *, namespace: str = "", version: str = "v1", **more: Any) -> Object:
    """An object with the usual metadata; `metadata=` adds to it, other keywords are its top level."""
    metadata = {"name": name, "uid": f"uid-of-{name}", "resourceVersion": "1"} | more.pop("metadata", {})
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def namespace(name: str, uid: str) -> Object:
    return made("Namespace", name, metadata={"uid": uid})


def config_map(name: str, *, namespace: str = "kube-system", **data: str) -> Object:
    """A ConfigMap; keys with dots go through `config_map(..., **{"config.conf": text})`."""
    return made("ConfigMap", name, namespace=namespace, data=data)


def node(
    name: str,
    *,
    ready: bool = True,
    labels: Mapping[str, str] | None = None,
    cidrs: Sequence[str] = (),
    version: str = "v1.36.3",
    os_image: str = "Debian GNU/Linux 12 (bookworm)",
    os: str = "linux",
    provider: str = "",
) -> Object:
    spec: Object = {}
    if cidrs:
        spec = {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)}
    if provider:
        spec["providerID"] = provider
    return made(
        "Node",
        name,
        metadata={"labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": os, **(labels or {})}},
        spec=spec,
        status={
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "nodeInfo": {"kubeletVersion": version, "osImage": os_image, "operatingSystem": os},
        },
    )


def daemon_set(
    name: str,
    *,
    namespace: str = "kube-system",
    image: str = "registry.example/image:1",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    managers: Sequence[str] = (),
    desired: int = 1,
) -> Object:
    label = {"k8s-app": name}
    return made(
        "DaemonSet",
        name,
        namespace=namespace,
        version="apps/v1",
        metadata={
            "labels": dict(labels or label),
            "annotations": dict(annotations or {}),
            "managedFields": [{"manager": manager, "operation": "Apply"} for manager in managers],
        },
        spec={
            "selector": {"matchLabels": label},
            "template": {
                "metadata": {"labels": label},
                "spec": {"containers": [{"name": name, "image": image}]},
            },
        },
        status={"desiredNumberScheduled": desired, "numberReady": desired},
    )


def service(
    name: str,
    *ips: str,
    namespace: str = "default",
    ports: Sequence[Object] = ({"port": 80, "protocol": "TCP", "targetPort": 8080},),
    type: str = "ClusterIP",  # noqa: A002 - the field's name
    labels: Mapping[str, str] | None = None,
    ingress: Sequence[Object] = (),
    **spec: Any,
) -> Object:
    """A Service with these ClusterIPs; `service(name, "None")` is headless."""
    addresses = {"clusterIP": ips[0], "clusterIPs": list(ips)} if ips else {}
    return made(
        "Service",
        name,
        namespace=namespace,
        metadata={"labels": dict(labels or {})},
        spec={"type": type, "ports": [dict(port) for port in ports], **addresses, **spec},
        status={"loadBalancer": {"ingress": list(ingress)} if ingress else {}},
    )


def endpoint(address: str, **fields: Any) -> Object:
    """One endpoint of a slice: ready, serving and not terminating unless `conditions=` says otherwise."""
    conditions = {"ready": True, "serving": True, "terminating": False}
    return {"addresses": [address], "conditions": conditions, **fields}


def endpoint_slice(
    of: str,
    *endpoints: Object | str,
    namespace: str = "default",
    ports: Sequence[Object] = ({"name": "", "port": 8080, "protocol": "TCP"},),
    family: str = "IPv4",
    suffix: str = "x",
) -> Object:
    return made(
        "EndpointSlice",
        f"{of}-{suffix}",
        namespace=namespace,
        version="discovery.k8s.io/v1",
        metadata={"labels": {"kubernetes.io/service-name": of}},
        addressType=family,
        endpoints=[endpoint(one) if isinstance(one, str) else one for one in endpoints],
        ports=[dict(port) for port in ports],
    )


def sample(name: str) -> str:
    """A sample's text."""
    return (SAMPLES / name).read_text()


def kubeadm_objects() -> dict[str, Object]:
    """`daemonset` and `configmap` of kube-proxy, and `kubeadm-config`, as a real API server keeps kubeadm's."""
    found: dict[str, Object] = json.loads(sample("kubeadm-1.36.3-kube-proxy.json"))
    return found


def kube_proxy_pod(on: str, *, ready: bool = True, waiting: str = "") -> Object:
    """A pod of kubeadm's kube-proxy; `waiting` is why its container doesn't run."""
    state = {"waiting": {"reason": waiting, "message": f"because {waiting}"}} if waiting else {"running": {}}
    return made(
        "Pod",
        f"kube-proxy-{on}",
        namespace="kube-system",
        metadata={"labels": {"k8s-app": "kube-proxy"}},
        spec={"nodeName": on, "containers": [{"name": "kube-proxy"}]},
        status={
            "phase": "Running" if ready else "Pending",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "kube-proxy", "state": state}],
        },
    )


def agents_daemon_set(*, generation: int = 1, observed: int | None = None, namespace: str = "kube-system") -> Object:
    """Cilium's DaemonSet; `observed` is the generation that its controller has seen."""
    body = daemon_set("cilium", namespace=namespace)
    body["metadata"]["generation"] = generation
    body["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/os": "linux"}
    body["status"]["observedGeneration"] = generation if observed is None else observed
    return body


def revision(number: int, of: Object, hash_: str = "") -> Object:
    """A ControllerRevision of a DaemonSet; its pods carry the hash, `hash-NUMBER` unless said."""
    name, metadata = f"{of['metadata']['name']}-{number}", of["metadata"]
    return made(
        "ControllerRevision",
        name,
        namespace=metadata["namespace"],
        version="apps/v1",
        metadata={
            "labels": {"k8s-app": "cilium", "controller-revision-hash": hash_ or f"hash-{number}"},
            "ownerReferences": [{"kind": "DaemonSet", "uid": metadata["uid"]}],
        },
        revision=number,
    )


def agent_pod(
    on: str,
    *,
    suffix: str = "a",
    ready: bool = True,
    hash_: str = "hash-1",
    env: Mapping[str, str] | None = None,
    started: str = "2026-11-01T10:00:00Z",
    state: Object | None = None,
    last: Object | None = None,
    namespace: str = "kube-system",
) -> Object:
    """An agent's pod `cilium-NODE-SUFFIX`; `state` and `last` are those of its container."""
    status = {"name": "cilium-agent", "state": state or {"running": {"startedAt": started}}}
    return made(
        "Pod",
        f"cilium-{on}-{suffix}",
        namespace=namespace,
        metadata={"labels": {"k8s-app": "cilium", "controller-revision-hash": hash_}},
        spec={
            "nodeName": on,
            "containers": [
                {"name": "cilium-agent", "env": [{"name": key, "value": value} for key, value in (env or {}).items()]}
            ],
        },
        status={
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [status | ({"lastState": {"terminated": last}} if last else {})],
        },
    )


def agent_answers(command: Sequence[str], says: str = "replace", saves: str = "") -> ExecResult:
    """What an agent's container prints for a command: two of cilium-dbg's from the samples, `saves` for iptables.

    Args:
        says: what real agents (1.20.2) said: `replace` (switched), `kube-proxy` (beside it), `ready-not-switched`
            (`True` and Ready, but not in the kernel yet).
    """
    if command[:2] == ["cilium-dbg", "status"]:
        return ExecResult(sample(f"cilium-1.20.2-status-{says}.json"), "", 0)
    if command[:3] == ["cilium-dbg", "endpoint", "list"]:
        return ExecResult(sample(f"cilium-1.20.2-endpoint-list-{says}.json"), "", 0)
    if command[0].endswith("-save"):
        return ExecResult(saves if command[0] == "iptables-nft-save" else "", "", 0)
    return ExecResult("", f"{command[0]}: not found", 127)


_PART = re.compile(r"(?:^|; )(?:\{ \{ )?([^;{}|']+); end '([^']+)'(?: >&3; \} \| own; \} 3>&1; end '([^']+)')?")


def shell(line: str, run: Callable[[Sequence[str]], ExecResult]) -> ExecResult:
    """What `sh -c` prints for an agent's one line; `test_asking` has a real shell run it."""
    stdout = stderr = ""
    for words, name, count_of in _PART.findall(line):
        its = run(words.split())
        end = f"\nkube-proxy-replacement: {name} {its.exit_code}\n"
        stderr += f"{its.stderr}\nkube-proxy-replacement: {name}\n"
        if count_of:
            own = re.compile(line.partition("grep -cE '")[2].partition("'")[0])
            count = sum(bool(own.search(text)) for text in its.stdout.splitlines())
            stdout += f"{end}{count}\n\nkube-proxy-replacement: {count_of} {int(not count)}\n"
            stderr += f"\nkube-proxy-replacement: {count_of}\n"
        else:
            stdout += its.stdout + end
    return ExecResult(stdout, stderr, 0)


def kubeconfig(server: str) -> str:
    """kube-proxy's own kubeconfig, as kubeadm writes it into the ConfigMap."""
    return f"""apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: {server}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
"""


def _collections(path: str) -> set[str]:
    words = path.split("/")[:-1]
    found = {"/".join(words)}
    if "namespaces" in words[:-1]:
        at = words.index("namespaces")
        if len(words) > at + 2:
            found.add("/".join(words[:at] + words[at + 2 :]))
    return found


def _labelled(body: Object, selector: str) -> bool:
    labels = (body.get("metadata") or {}).get("labels") or {}
    for part in filter(None, re.split(r",(?![^(]*\))", selector)):
        if among := re.fullmatch(r"(\S+) (in|notin) \((.*)\)", part):
            if (labels.get(among[1]) in among[3].split(",")) != (among[2] == "in"):
                return False
        elif "!=" in part:
            key, value = part.split("!=", 1)
            if labels.get(key) == value:
                return False
        elif "=" in part:
            key, value = part.replace("==", "=").split("=", 1)
            if labels.get(key) != value:
                return False
        elif part.startswith("!"):
            if part[1:] in labels:
                return False
        elif part not in labels:
            return False
    return True


def _has(body: Object, selector: str) -> bool:
    for part in filter(None, selector.split(",")):
        path, value = part.split("=", 1)
        found: Any = body
        for word in path.split("."):
            found = (found or {}).get(word)
        if found != value:
            return False
    return True


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
