"""The component: the procedure, from top to bottom."""

# without `from __future__ import annotations`: Pulumi's analyzer of components reads what is written here as types
import asyncio
import hashlib
import importlib
import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.helm.v3 import Release

from . import command, holding, release, settings, undoing, values
from .agent_status import AgentStatus
from .cluster.told import Order
from .cluster.trees import merged
from .found import Found


class LoadBalancerArgs(TypedDict):
    """How the agents balance what comes from outside; only in mode `replace`."""

    mode: NotRequired[pulumi.Input[str]]
    """`snat`, `dsr` or `hybrid`."""
    algorithm: NotRequired[pulumi.Input[str]]
    """`random` or `maglev`."""
    acceleration: NotRequired[pulumi.Input[str]]
    """XDP: `disabled`, `native` or `best-effort`."""
    session_affinity: NotRequired[pulumi.Input[bool]]
    """Whether a Service's session affinity is honoured."""


class NodeByNodeArgs(TypedDict):
    """How agents take over node by node; only with strategy `node-by-node`."""

    batch_size: NotRequired[pulumi.Input[str]]
    """How many nodes at a time: a whole number, or a percentage of them (`10%`). Default: 1."""
    order: NotRequired[pulumi.Input[list[str]]]
    """Label selectors, the first one's nodes first. Default: by name, the control plane last."""
    settle_seconds: NotRequired[pulumi.Input[int]]
    """Seconds for which a node must have been as wanted before the next one's turn, up to 3600. Default: 0."""
    canaries: NotRequired[pulumi.Input[str]]
    """A label selector: these nodes first, then the run stops until `continue` is set. Default: none."""
    # Python's own word can't be a name; the SDK, and `_camel`, make `continue` of this one
    continue_: NotRequired[pulumi.Input[bool]]
    """Go on after the canaries; `continue_` in Python. Default: false."""
    pause_after: NotRequired[pulumi.Input[str]]
    """After how many nodes, or what percentage of them, a run stops; the next one goes on. Default: never."""
    drain: NotRequired[pulumi.Input[bool]]
    """Whether a node is cordoned and its pods are evicted first, as PodDisruptionBudgets allow. Default: false."""


class KubeProxyReplacementArgs(TypedDict):
    """The settings; only `mode` is required."""

    # The first paragraph of each is also what Pulumi.yaml says of it, and a table in docs/settings.md, by `make docs`

    mode: pulumi.Input[str]
    """`coexist` (kube-proxy routes Services) or `replace` (Cilium does, kube-proxy is gone)."""
    api_server_host: NotRequired[pulumi.Input[str]]
    """Where agents reach the API server without Services: a DNS name or an address. Default: found in the cluster.

    Found in kube-proxy's own ConfigMap, else in `kubeadm-config`, else in `cluster-info`; the preview shows what was
    taken and from where.
    """
    api_server_port: NotRequired[pulumi.Input[int]]
    """The API server's port there. Default: found in the cluster."""
    cilium_version: NotRequired[pulumi.Input[str]]
    """The chart's version, all three numbers; required where the chart comes from a repository. Default: a local
    chart's own; of a release that is taken over, the one that runs.

    Of a release that is taken over: at most one minor version up, never down.
    """
    chart: NotRequired[pulumi.Input[str]]
    """Another chart repository's address, an `oci://` address, or a local folder or archive. Default: Cilium's
    repository.
    """
    namespace: NotRequired[pulumi.Input[str]]
    """The Helm release's namespace. Default: `kube-system`."""
    release_name: NotRequired[pulumi.Input[str]]
    """The Helm release's name. Default: `cilium`."""
    kubeconfig: NotRequired[pulumi.Input[str]]
    """A kubeconfig's whole content, only as a secret. Default: the ambient one.

    In a stack's file: `pulumi config set --secret kubeconfig < FILE`. One that isn't encrypted there is refused.
    """
    kube_context: NotRequired[pulumi.Input[str]]
    """A context in the kubeconfig. Default: its current one."""
    values: NotRequired[pulumi.Input[dict[str, Any]]]
    """Further Helm values; one that the chart doesn't know, or that contradicts the mode, is refused. Default: none.

    They lie on top of what the owner of a release that is taken over has set. `pulumi config set --path
    values.operator.replicas 3` sets one; with `--secret` all of `values` is a secret, in state and display.
    """
    strategy: NotRequired[pulumi.Input[str]]
    """How agents take over: `all-at-once` (in one roll-out) or `node-by-node` (one batch after the other, where agents
    run already). Default: `node-by-node` where agents already run, else `all-at-once`.
    """
    node_by_node: NotRequired[pulumi.Input[NodeByNodeArgs]]
    """How they take over node by node; refused with strategy `all-at-once`. Default: one node at a time, by name, the
    control plane last.
    """
    load_balancer: NotRequired[pulumi.Input[LoadBalancerArgs]]
    """How the agents balance what comes from outside; only in mode `replace`. Default: as in the chart."""
    hubble: NotRequired[pulumi.Input[bool]]
    """Flow visibility (`hubble.enabled`). Default: `true`; of a release that is taken over, what its owner has."""
    keep_connections: NotRequired[pulumi.Input[bool]]
    """In `replace`: whether pods' open connections to ClusterIPs live through the switch-over
    (`socketLB.hostNamespaceOnly`). Default: `true`, unless `values` say otherwise.

    A value of your own, or of the owner of a release that is taken over, wins where this isn't set. On a switched
    cluster a change of it is refused unless it is said here. Which connections live: docs/connections.md.
    """
    timeout_seconds: NotRequired[pulumi.Input[int]]
    """Longest time without progress (a node that became ready) in a rollout, in seconds. Default: `600`."""
    on_failure: NotRequired[pulumi.Input[str]]
    """What a switch-over that fails leaves: `rollback` (it is undone) or `keep` (it stops there, for a look).
    Default: `rollback`.

    `rollback`: kube-proxy is restored and routes on every node, then Cilium gets back the values that it had. After
    `keep` the next `up` goes on. See docs/when-something-goes-wrong.md.
    """
    skip_checks: NotRequired[pulumi.Input[list[str]]]
    """Names of checks whose «no» is taken as seen: `managed-by`, `distribution`, `other-network`. Default: none.

    - `managed-by`: a GitOps controller, an add-on manager or alike owns kube-proxy or Cilium.
    - `distribution`: kube-proxy is the distribution's own.
    - `other-network`: another CNI serves the pods.

    A refusal that can be skipped ends with its name; what was skipped is said in every preview.
    `pulumi config set --path 'skipChecks[0]' managed-by`
    """
    verify: NotRequired[pulumi.Input[str]]
    """How far each `up` proves. Default: `status` (what every agent says), the only one yet."""


class KubeProxyReplacement(pulumi.ComponentResource):
    """Takes a cluster's Services from kube-proxy to Cilium's eBPF replacement, and back.

    The same resources are declared in both modes, so that a change of mode is an update of each, in this order.
    `destroy` takes them in reverse: kube-proxy is back, and routes, before Cilium lets go.
    """

    mode: pulumi.Output[str]
    """As configured."""
    kube_proxy_replacement: pulumi.Output[str]
    """What the agents say, over all nodes: `True`, `False`, `Mixed` or `Unknown`."""
    agents: pulumi.Output[dict[str, int]]
    """Counts: `desired`, `ready`, `replacing`, `switched`, `unreadable`.

    *Replacing*: the agent says so. *Switched*: and every endpoint of it is ready, the host's own too.
    """
    nodes: pulumi.Output[dict[str, Any]]
    """By node: `kubeProxyReplacement`, `ready`, `version`, `devices`, `features`, `leftoverRules`, `error`.

    `leftoverRules` is a count of lines, −1 where it can't be read; `error` says why an agent can't be.
    """
    hand_over: pulumi.Output[dict[str, Any]]
    """How far the nodes are, with either strategy: `done`, `total`, `failed`, `now`.

    `done` of `total` nodes are as the mode wants. `failed`: names of nodes that are Ready and aren't; `now`: of those
    in the middle of their turn. At the end of a run that went well both are empty; while it goes on, its tree shows it.
    """
    api_server: pulumi.Output[dict[str, Any]]
    """What the agents were given, and where it was first found: `host`, `port`, `source`."""
    kube_proxy: pulumi.Output[dict[str, Any]]
    """Whether it is there, and where its backup lies: `present`, `backup`."""
    release: pulumi.Output[dict[str, Any]]
    """The Helm release: `name`, `namespace`, `version`, `revision`, `status`."""
    cluster: pulumi.Output[str]
    """UID of the cluster that this stack belongs to: its `kube-system` namespace's."""

    def __init__(self, name: str, args: KubeProxyReplacementArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kube-proxy-replacement:index:KubeProxyReplacement", name, None, opts)
        told = _by_setting(args)
        kubeconfig, context = told.get("kubeconfig"), told.get("kubeContext")
        provider = self._kubernetes_provider(name, kubeconfig, context)

        # 1. Look: nothing has changed yet if anything here says no.
        found = Found(f"{name}-found", told, opts=self._child())
        _tell(found, self)
        cluster = _same_cluster(found, name, provider, self)

        # 2. Hand over, where it goes node by node: each is Cilium's, and proved, before the next one's turn. In coexist
        # mode: kube-proxy is back, and each is its own again.
        helm_values = _helm_values(told, found)
        on_top = {"VALUES": _on_top(told, found)}
        rendered = _rendered(told, found, helm_values, on_top["VALUES"], provider, self)
        order = _order(told, found, cluster, rendered)
        step = command.Steps(self, order=order, mark=found.mark, run=found.run, kubeconfig=kubeconfig, context=context)
        handed_over = step.command(
            f"{name}-hand-over",
            "hand-over",
            verbs=["create", "update"],
            more={"VALUES": _all_values(helm_values, on_top["VALUES"]), "NODE_BY_NODE": _node_by_node(told)},
            depends_on=[found],
        )

        # 3. Remove kube-proxy, backed up: the DaemonSet, then the ConfigMap. In coexist mode: it is back.
        daemonset = step.command(f"{name}-daemonset", "kube-proxy-daemonset", more=on_top, depends_on=[handed_over])
        configmap = step.command(f"{name}-configmap", "kube-proxy-configmap", depends_on=[daemonset])

        # 4. Cilium, with the replacement on or off: a release of our own, or its owner's, whose values stay his.
        def its_release(adopted: Any) -> pulumi.Resource:
            if adopted is True:
                return step.command(
                    f"{name}-cilium",
                    "release",
                    verbs=["create", "update"],
                    more=on_top,
                    depends_on=[daemonset, configmap],
                )
            return release.cilium(
                f"{name}-cilium",
                name=told.get("releaseName", "cilium"),
                namespace=told.get("namespace", "kube-system"),
                chart=told.get("chart", ""),
                version=told.get("ciliumVersion"),
                values=helm_values,
                mark=found.mark,
                timeout=told.get("timeoutSeconds", 600),
                lost=lambda: _release_of_ours(told, cluster),
                failed=undoing.where_it_fails(
                    order=order, run=found.run, kubeconfig=kubeconfig, context=context, component=self
                ),
                provider=provider,
                parent=self,
                depends_on=[daemonset, configmap],
            )

        cilium = found.adopted.apply(its_release, run_with_unknowns=True)

        # On destroy kube-proxy is back, and routes, before Cilium lets go. A Command of its own, in the state as soon
        # as the Release is: the wait below can fail, or be killed, and what wasn't created is never deleted.
        revision = pulumi.Output.all(cilium, on_top["VALUES"]).apply(_revision)
        step.command(f"{name}-way-back", "way-back", verbs=["delete"], more=on_top, depends_on=[cilium])

        # 5. Wait until every agent is switched, then clean.
        cleaned = step.command(
            f"{name}-agents",
            "agents",
            verbs=["create", "update"],
            more={"REVISION": revision},
            depends_on=[cilium],
        )

        # 6. Prove: what every agent says.
        status = AgentStatus(
            f"{name}-status",
            {
                "cluster": cluster,
                "namespace": told.get("namespace", "kube-system"),
                # what makes another resource change makes the agents be read anew
                "order": order,
                "mark": found.mark,
                "revision": revision,
                "unreadable": found.unreadable,
                "releaseName": found.adopted.apply(lambda its: told.get("releaseName", "cilium") if its else None),
                "kubeconfig": kubeconfig,
                "kubeContext": context,
            },
            opts=self._child(depends_on=[daemonset, configmap, cilium, cleaned]),
        )

        # the lock on the cluster, which step 1 has taken where anything changes
        proved = holding.until(status.kubeProxyReplacement, found, kubeconfig, context, self)

        self.mode = pulumi.Output.from_input(args["mode"])
        self.kube_proxy_replacement = proved
        self.agents = status.agents
        self.nodes = status.nodes
        self.hand_over = status.handOver
        self.api_server = found.apiServer
        self.kube_proxy = status.kubeProxy
        self.release = cilium.apply(
            lambda its: its.status.apply(_release_output) if isinstance(its, Release) else status.release
        )
        self.cluster = cluster
        self.register_outputs(self.outputs())
        # the client of the API takes a while to load: now, while the look is under way
        threading.Thread(target=importlib.import_module, args=(f"{__package__}.ownership",), daemon=True).start()

    def outputs(self) -> dict[str, pulumi.Output[Any]]:
        """The outputs by their names in a stack."""
        return {
            "mode": self.mode,
            "kubeProxyReplacement": self.kube_proxy_replacement,
            "agents": self.agents,
            "nodes": self.nodes,
            "handOver": self.hand_over,
            "apiServer": self.api_server,
            "kubeProxy": self.kube_proxy,
            "release": self.release,
            "cluster": self.cluster,
        }

    def _child(self, depends_on: list[pulumi.Input[pulumi.Resource]] | None = None) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, depends_on=depends_on)

    def _kubernetes_provider(
        self, name: str, kubeconfig: pulumi.Input[str] | None, context: pulumi.Input[str] | None
    ) -> pulumi.ProviderResource:
        """The provider that was passed to the component, else one of its own."""
        given = self._providers.get("kubernetes")
        if given is not None:
            return given
        return kubernetes.Provider(
            f"{name}-kubernetes",
            # the SDK fills in None from $KUBECONFIG, and the state would hold one person's path; the plugin takes ""
            # as not set, and asks the environment itself
            kubeconfig="" if kubeconfig is None else kubeconfig,
            context=context,
            # without it a kubeconfig whose cluster stanza changes replaces the provider, and Cilium with it. Another
            # identifier would do the same: this one knows neither the stack's name nor the component's, which may
            # change (`pulumi stack rename`, an alias), and one that a state has stays. Which cluster it is, is asked of
            # the cluster
            cluster_identifier="kube-proxy-replacement",
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["clusterIdentifier"]),
        )


def _by_setting(args: KubeProxyReplacementArgs) -> dict[str, Any]:
    """The arguments by their settings' names (`api_server_host` is `apiServerHost`), those that are set."""
    given: Mapping[str, Any] = args
    unknown = settings.unknown([_camel(key) for key in given])
    if unknown:
        raise pulumi.RunError("\n".join(unknown))
    told = {_camel(key): value for key, value in given.items() if value is not None}
    for name in ("loadBalancer", "nodeByNode"):
        if name in told:
            told[name] = pulumi.Output.from_input(told[name]).apply(
                lambda its: {_camel(key): value for key, value in its.items()} if isinstance(its, Mapping) else its
            )
    if "kubeconfig" in told:
        told["kubeconfig"] = pulumi.Output.secret(told["kubeconfig"])
    return told


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _tell(found: Found, component: KubeProxyReplacement) -> None:
    """What step 1 has to say to a reviewer, in previews: a run itself says what it does."""
    if not pulumi.runtime.is_dry_run():
        return

    def tell(told: list[list[str] | None]) -> None:
        for finding in told[1] or []:
            pulumi.log.warn(f"not as wanted: {finding}", component)
        for note in told[0] or []:
            pulumi.log.info(note, component)

    pulumi.Output.all(found.notes, found.findings).apply(tell)


class _Namespace(pulumi.CustomResource):
    """A namespace that is read. The SDK's own class brings all of `core/v1`: a quarter of an unchanged run's time."""

    metadata: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__("kubernetes:core/v1:Namespace", name, {"metadata": None}, opts)


def _same_cluster(
    found: Found, name: str, provider: pulumi.ProviderResource, parent: pulumi.Resource
) -> pulumi.Output[str]:
    """The cluster's UID, as our own client and the Release's provider both read it."""
    namespace = _Namespace(
        f"{name}-cluster",
        pulumi.ResourceOptions(parent=parent, provider=provider, depends_on=[found], id="kube-system"),
    )

    def same(uids: list[str]) -> str:
        ours, theirs = uids
        if ours != theirs:
            raise pulumi.RunError(
                f"Two clusters: the settings kubeconfig and kubeContext lead to the cluster with UID {ours}, the "
                f"Kubernetes provider of the Release to {theirs}. Nothing was changed. Give both the same cluster."
            )
        return ours

    return pulumi.Output.all(found.cluster, namespace.metadata["uid"]).apply(same)


def _rendered(
    told: Mapping[str, Any],
    found: Found,
    helm_values: pulumi.Output[dict[str, Any]],
    on_top: pulumi.Output[str],
    provider: pulumi.ProviderResource,
    parent: pulumi.Resource,
) -> pulumi.Output[bool]:
    """True, once the chart renders what the steps will rely on, and Helm will be let to install it.

    Asked only in a run that changes something: while all is as it was, nothing is removed.
    """

    async def rendered(its: dict[str, Any]) -> bool:
        if not its["changing"]:
            return True
        from . import rendering

        parsed, address = settings.parse(its["settings"]), its["address"]
        opts = pulumi.InvokeOptions(parent=parent, provider=provider)
        where, preview = (address["host"], int(address["port"])), pulumi.runtime.is_dry_run()
        if its["adopted"]:
            with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-") as folder:
                parsed, its_values = await asyncio.to_thread(_adopted, parsed, json.loads(its["onTop"]), Path(folder))
                # an owner's values may hold secrets, and nobody has marked them
                await rendering.demand(parsed, its_values, *where, opts, preview=preview, veiled=True)
        else:
            veiled = await helm_values.is_secret()
            await rendering.demand(parsed, its["values"], *where, opts, preview=preview, veiled=veiled)
        return True

    done: pulumi.Output[bool] = pulumi.Output.all(
        settings={key: value for key, value in told.items() if key != "values"},
        values=helm_values,
        address=found.apiServer,
        changing=found.changing,
        adopted=found.adopted,
        onTop=on_top,
    ).apply(rendered)
    # that it is done is no secret, whatever the values are: what the steps are told stays readable
    return pulumi.Output.unsecret(done)


def _adopted(parsed: settings.Settings, on_top: Mapping[str, Any], folder: Path) -> tuple[settings.Settings, Any]:
    """What is rendered of an adopted release: its chart, a folder or an archive, and its owner's values with ours on
    top.
    """
    from . import ownership

    chart, owner = ownership.adopted(parsed, on_top, folder)
    return replace(parsed, chart=str(chart), cilium_version=""), merged(owner, on_top)


async def _release_of_ours(told: Mapping[str, Any], cluster: pulumi.Output[str]) -> str | None:
    """The ID of the release that the cluster's record calls ours, where Helm has it; None where that isn't
    known yet.
    """
    its_settings = {key: value for key, value in told.items() if key != "values"}
    known = pulumi.Output.all(settings=its_settings, cluster=cluster)
    if not await known.is_known():
        return None
    from . import ownership

    its: Any = await known.future()
    return await asyncio.to_thread(ownership.release_id, settings.parse(its["settings"]))


def _order(
    told: Mapping[str, Any], found: Found, cluster: pulumi.Output[str], rendered: pulumi.Output[bool]
) -> pulumi.Output[str]:
    """What the steps are told; nothing is before the chart has been rendered."""

    def order(its: dict[str, Any]) -> str:
        parsed, by_node = settings.parse(its["settings"]), its["way"] == "node-by-node"
        return Order(
            cluster=its["cluster"],
            server=its["server"],
            mode=parsed.mode,
            namespace=parsed.namespace,
            release=parsed.release_name,
            host=its["address"]["host"],
            port=int(its["address"]["port"]),
            image=its["image"],
            timeout=parsed.timeout_seconds,
            restart=tuple(its["restart"] or ()),
            keep=parsed.on_failure == "keep",
            adopted=bool(its["adopted"]),
            owner=its["owner"] if its["adopted"] else "",
            strategy=its["way"] if by_node else "",
            chart=parsed.chart if its["adopted"] or by_node else "",
            version=parsed.cilium_version if its["adopted"] or by_node else "",
        ).to_json()

    plain = {key: value for key, value in told.items() if key not in ("kubeconfig", "values")}
    return pulumi.Output.all(
        settings=plain,
        cluster=cluster,
        server=found.server,
        address=found.apiServer,
        image=found.image,
        restart=found.restart,
        adopted=found.adopted,
        owner=found.owner,
        way=found.way,
        rendered=rendered,
    ).apply(order)


def _on_top(told: Mapping[str, Any], found: Found) -> pulumi.Output[str]:
    """JSON of what an adopted release is given on top of its owner's values; "" for one of our own."""

    def on_top(its: dict[str, Any]) -> str:
        if not its["own"]:
            return ""
        return json.dumps(merged(settings.whole(its["values"] or {}), settings.whole(its["own"])), sort_keys=True)

    return pulumi.Output.all(values=told.get("values"), own=found.own).apply(on_top)


def _all_values(helm_values: pulumi.Output[dict[str, Any]], on_top: pulumi.Output[str]) -> pulumi.Output[str]:
    """JSON of what the release is given: on top of its owner's, or, where it is our own, in all."""
    return pulumi.Output.all(helm_values, on_top).apply(
        lambda its: its[1] or json.dumps(settings.whole(its[0]), sort_keys=True)
    )


def _node_by_node(told: Mapping[str, Any]) -> pulumi.Output[str]:
    return pulumi.Output.all(nodeByNode=told.get("nodeByNode"), mode=told["mode"]).apply(
        lambda its: settings.parse(its).node_by_node.to_json()
    )


def _revision(its: list[Any]) -> pulumi.Input[str]:
    """What changes with the release, so that the agents are awaited then."""
    cilium, on_top = its
    if isinstance(cilium, Release):
        revision: pulumi.Output[str] = cilium.status.apply(lambda status: str(status.revision))
        return revision
    return hashlib.sha256(on_top.encode()).hexdigest()[:16]


def _helm_values(told: Mapping[str, Any], found: Found) -> pulumi.Output[dict[str, Any]]:
    def helm_values(its: dict[str, Any]) -> dict[str, Any]:
        address = its["address"]
        return values.helm_values(
            settings.parse(its["settings"]), address["host"], int(address["port"]), its["pods"] or {}
        )

    plain = {key: value for key, value in told.items() if key != "kubeconfig"}
    return pulumi.Output.all(settings=plain, address=found.apiServer, pods=found.podAddresses).apply(helm_values)


def _release_output(status: Any) -> dict[str, Any]:
    return {
        "name": status.name,
        "namespace": status.namespace,
        "version": status.version,
        "revision": status.revision,
        "status": status.status,
    }
