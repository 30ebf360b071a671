"""Step 1, look: everything that can say no says it before anything has changed.

It runs in the `check` of the stack's first resource, so in every preview. No Pulumi in here: a mapping of inputs
goes in, the inputs with what was found come out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import adopting, chart, notes, upgrading
from .adopting import Adopted
from .cluster import (
    address,
    agents,
    checks,
    cni,
    controllers,
    distribution,
    drift,
    foreign_cilium,
    helm_release,
    identity,
    ipvs,
    kube_proxy,
    lease,
    node_config,
    node_order,
    nodes,
    pod_addresses,
    record,
    rights,
    routing,
    scheduling,
    taking_over,
)
from .cluster.address import ApiServerAddress
from .cluster.api import Api
from .cluster.checks import Refusal
from .cluster.errors import ApiError, ProcedureError
from .cluster.helm import Helm
from .cluster.services import ServiceTable, joined
from .cluster.trees import merged
from .settings import NAMES, Settings, SettingsError, parse
from .values import agent_image, helm_values, keeps_connections, own_values

_POD_ADDRESSES = ("ipam", "ipv4", "ipv6")
"""The Helm values that `cluster.pod_addresses` gives."""

_KEPT = "bpf-lb-sock-hostns-only"
"""The agents' option for `socketLB.hostNamespaceOnly`."""

_AT_ONCE, _BY_NODE = "all-at-once", "node-by-node"

_OWN_PORT = ", port: the setting apiServerPort"

_UNREAD = (
    "the agents were not read: these credentials may not exec in pods (pods/exec in namespace {namespace}). The "
    "readings shown are the last ones; what isn't as wanted was looked for in what the API server itself has"
)

_PATIENCE = 10.0
"""Seconds for which a preview tries an API server that doesn't answer."""


@dataclass(frozen=True)
class Found:
    """What step 1 found, in the shape that is recorded.

    Attributes:
        cluster: UID of namespace kube-system.
        server: the API server's URL that it was read from.
        api_server: `{host, port, source}`.
        pod_addresses: Helm values for the pod addresses in use, {} where Cilium was there before.
        image: the agent's image.
        mark: the repair mark; changes only when something isn't as wanted.
        findings: what isn't as wanted, in words.
        unreadable: names of the nodes whose ready agent can't be read; a change of it renews the readings alone.
        restart: UIDs of agents to restart by name.
        backed_up: whether there is a kube-proxy, or a backup of one: then the state has a copy of it from then on.
        notes: what the preview tells.
        superseded: another run than the last recorded one has been at work on the cluster, or is.
        owner: a digest of an adopted release's owner's values; "" where the release is this program's own.
        own: the values that the procedure itself sets on top of those, {} where there are none.
        way: the strategy by which a run goes from here, or the last one went.
        plan: what a run from here does to the nodes: `{what, nodes, leftOut, fresh}`, see `_Look._plan`.
        uninstalled: why a run would fail at Helm's release, which is gone from the cluster; "" where it wouldn't.
    """

    cluster: str
    server: str
    api_server: dict[str, Any]
    pod_addresses: dict[str, Any]
    image: str
    mark: str
    findings: list[str]
    unreadable: list[str]
    restart: list[str]
    backed_up: bool
    notes: list[str]
    superseded: bool = False
    owner: str = ""
    own: dict[str, Any] = field(default_factory=dict)
    way: str = "all-at-once"
    plan: dict[str, Any] = field(default_factory=dict)
    uninstalled: str = ""

    def as_inputs(self) -> dict[str, Any]:
        return {
            "cluster": self.cluster,
            "server": self.server,
            "apiServer": self.api_server,
            "podAddresses": self.pod_addresses,
            "image": self.image,
            "mark": self.mark,
            "findings": self.findings,
            "unreadable": self.unreadable,
            "restart": self.restart,
            "backedUp": self.backed_up,
            "notes": self.notes,
            # said of a release of our own too: an output that the state lacks is unknown in a preview
            "adopted": bool(self.owner),
            "owner": self.owner,
            "own": self.own,
            "way": self.way,
            "plan": self.plan,
            "uninstalled": self.uninstalled,
        }


def look(inputs: Mapping[str, Any], before: Mapping[str, Any], folder: Path, *, preview: bool = False) -> Found:
    """Looks at settings, chart and cluster; changes nothing.

    Args:
        inputs: the settings by name.
        before: the inputs that were recorded by the last run, {} on the first.
        folder: what a relative `chart` is relative to.
        preview: whether nothing will be changed after it: then the rights to change are no condition, and agents that
            these credentials may not read are left unread.
    Raises SettingsError with every reason there is; ProcedureError and ChartError with one.
    """
    settings = parse(inputs)
    its_chart = None
    if chart.is_local(settings.chart) or (settings.cilium_version and not before.get("adopted")):
        its_chart = chart.load(settings.chart, settings.cilium_version or None, folder=folder)
        _demand_values(settings, its_chart, None, adopted=bool(before.get("adopted")))
    api = Api.connect(settings.kubeconfig, settings.kube_context, patience=_PATIENCE)
    try:
        return _of(api, settings, its_chart, before, folder, preview)
    except ApiError as error:
        if error.status == 403:
            rights.demand(api, rights.reading(settings.namespace))
        raise ProcedureError(f"{error}\nNothing was changed.") from None


def _of(
    api: Api,
    settings: Settings,
    its_chart: chart.Chart | None,
    before: Mapping[str, Any],
    folder: Path,
    preview: bool,
) -> Found:
    cluster = identity.cluster_uid(api)
    confirm(api, cluster, before)
    return _Look(api, settings, its_chart, cluster, before, folder, preview).found()


def _demand_values(
    settings: Settings, its_chart: chart.Chart, base: Mapping[str, Any] | None, *, adopted: bool
) -> None:
    """Raises SettingsError where the setting `values` says what the chart doesn't know, or what can't be meant.

    Args:
        base: what applies where it says nothing; None where that isn't known yet.
    """
    # all templates are read for it: only where there is something to ask
    reasons = [str(item) for item in chart.KnownValues(its_chart).unknown(settings.values)] if settings.values else []
    reasons += chart.contradictions(
        settings.values,
        settings.mode,
        base=base,
        version=its_chart.version,
        api_server_host=settings.api_server_host or None,
        api_server_port=settings.api_server_port or None,
        load_balancer=settings.load_balancer,
        hubble=settings.hubble if adopted else settings.hubble is not False,
        keep_connections=settings.keep_connections,
        namespace=settings.namespace,
    )
    if reasons:
        raise SettingsError(reasons)


def confirm(api: Api, cluster: str, before: Mapping[str, Any]) -> None:
    """Raises ProcedureError where `cluster`, a UID, isn't the one that was recorded."""
    if before.get("cluster", cluster) != cluster:
        was = before.get("server") or "an address that wasn't recorded"
        raise ProcedureError(
            f"This is another cluster: the stack belongs to the cluster with UID {before['cluster']} (then at {was}), "
            f"but the kubeconfig leads to {cluster} at {api.server}. Nothing was changed. Set kubeContext (or "
            "KUBECONFIG) to the stack's cluster; a stack never moves to another one."
        )


def _settings_then(before: Mapping[str, Any]) -> Settings | None:
    """The settings of the last run; None where there was none, or where this version no longer takes them."""
    try:
        return parse({name: before[name] for name in NAMES if name in before})
    except SettingsError:
        return None


class _Look:
    """One look at one cluster; each method says no, or adds to what is found."""

    def __init__(
        self,
        api: Api,
        settings: Settings,
        its_chart: chart.Chart | None,
        cluster: str,
        before: Mapping[str, Any],
        folder: Path,
        preview: bool,
    ) -> None:
        self.api = api
        self.settings = settings
        self.cluster = cluster
        self.before = before
        self.preview = preview
        with ThreadPoolExecutor(8) as pool:
            # read together: a preview's time is the API server's distance, many times over
            def reading(function: Callable[..., Any], *arguments: Any) -> Any:
                return pool.submit(function, *arguments)

            proxy = reading(kube_proxy.find, api)
            services = reading(ServiceTable.read, api)
            kept = reading(record.read, api)
            lock = reading(lease.read, api)
            daemonsets = reading(api.list, "/apis/apps/v1/daemonsets")
            release = reading(helm_release.find, api, settings.namespace, settings.release_name)
            node_items = reading(api.list, nodes.LIST)
            execing = reading(rights.lacking, api, rights.in_agents(settings.namespace))
            try:
                self.proxy: kube_proxy.KubeProxy = proxy.result()
            except kube_proxy.StaticPodsError as error:
                raise ProcedureError(f"{error}\n{distribution.way(distribution.read(api)) or ''}".rstrip()) from None
            self.services: ServiceTable = services.result()
            self.record: record.Record | None = kept.result()
            self.lock: lease.Lease | None = lock.result()
            self.daemonsets = daemonsets.result()
            self.release: helm_release.HelmRelease | None = release.result()
            self.configured = self.release.config if self.release else {}
            self.node_items = node_items.result()
            self.nodes = nodes.among(self.node_items)
            self.reads_agents = not execing.result()
        self.had_kube_proxy = (
            self.proxy.daemonset is not None
            or bool(self.record and self.record.had_kube_proxy)
            # where both were deleted, the state's copy of the backup comes back
            or bool(before.get("backedUp"))
        )
        self.ours = bool(before) or (
            self.record is not None and self.record.release == f"{settings.namespace}/{settings.release_name}"
        )
        # A run in this mode has begun; whether it came to its end, only the cluster knows.
        self.begun = before.get("mode") == settings.mode
        ended = self.record.done == settings.mode if self.record else self.release is not None
        self.steady = self.begun and ended
        self.then = _settings_then(before)
        self.unfinished = (
            # read once more, for who wrote it when: only where there is something to ask
            helm_release.unfinished(api, settings.namespace, settings.release_name)
            if self.release and self.release.unfinished
            else None
        )
        self.skipped: list[str] = []
        self.contested: Refusal | None = None
        self.adopted = adopting.find(
            api,
            settings,
            before,
            self.record,
            lambda owner: merged(settings.values, own_values(settings, "", 0, owner)),
        )
        self.owners: Mapping[str, Any] | None = self.adopted.owner.values if self.adopted else None
        self.chart = its_chart or self._chart(folder)
        # what applies where the setting `values` says nothing, and all that is said
        self.base = merged(self.chart.values, self.owners or {})
        self.said = merged(self.owners or {}, settings.values)

    def _chart(self, folder: Path) -> chart.Chart:
        if self.adopted is None:
            return chart.load(self.settings.chart, self.settings.cilium_version or None, folder=folder)
        with tempfile.TemporaryDirectory(prefix="kube-proxy-replacement-") as its:
            path = upgrading.place(
                self.settings.chart, self.settings.cilium_version, self.adopted.runs.chart, Path(its), folder
            )
            return chart.load(str(path), None)

    def found(self) -> Found:
        _demand_values(self.settings, self.chart, self.base, adopted=self.adopted is not None)
        self._namespace_says_no()
        self._nodes_say_no()
        self._kube_proxy_says_no()
        self._other_network_says_no()
        self._foreign_cilium_says_no()
        self._open_connections_say_no()
        self._rolling_back_says_no()
        its_address = self._address()
        own = own_values(self.settings, its_address.host, its_address.port, self.owners)
        if self.unfinished:
            self._helm_at_work_says_no(self.unfinished, own)
        if self.adopted:
            self._adoption_says_no(self.adopted, own, its_address)
        wrong = self._drift() if self.begun else drift.NOTHING
        if wrong.findings or self.then != self.settings:
            self._demand(self.contested)
        mark = wrong.mark or self.before.get("mark") or ""
        if self.before and not self.steady:
            # What a stopped run left half-way isn't a finding; but an agent that no rollout will restart is restarted.
            # Also where the mode changes: Helm may have done for a run that was stopped what its state doesn't know,
            # and a Release that looks unchanged to Pulumi would stay as Helm left it.
            mark = drift.mark_of(["a run was stopped"], mark)
            wrong = replace(wrong, findings=())
        way = self._way(fresh := not any(d["metadata"]["name"] == agents.DAEMONSET for d in self.daemonsets))
        if not self.preview and (wrong.findings or not self.steady or not self.reads_agents):
            wanted = rights.reading(self.settings.namespace) + rights.changing(self.settings.namespace)
            wanted += rights.adopting() if self.adopted else []
            if way == _BY_NODE and not self.steady and not fresh:
                drain = self.settings.node_by_node.drain
                wanted += rights.handing_over(self.settings.namespace, drain=drain)
            rights.demand(self.api, wanted)
        return Found(
            cluster=self.cluster,
            server=self.api.server,
            api_server={"host": its_address.host, "port": its_address.port, "source": its_address.source},
            pod_addresses=self._pod_addresses(fresh),
            image=agent_image(self.chart.values, self.said),
            mark=mark,
            findings=list(wrong.findings),
            # agents that nobody tried to read keep the readings that they have
            unreadable=sorted(wrong.unreadable) if self.reads_agents else list(self.before.get("unreadable") or []),
            restart=list(wrong.restart),
            backed_up=self.had_kube_proxy,
            notes=self.skipped
            + self._lock_notes()
            + self._adoption_notes(own, wrong)
            + ([] if self.steady else self._notes(its_address, fresh, way))
            + ([effect] if (effect := self._keeping_changes()) else [])
            + [f"{node}: its agent can't be read ({why})" for node, why in sorted(wrong.unreadable.items())]
            + ([_UNREAD.format(namespace=self.settings.namespace)] if self.begun and not self.reads_agents else []),
            superseded=self._superseded(),
            owner=self.adopted.owner.digest if self.adopted else "",
            own=own if self.adopted else {},
            way=way,
            plan=self._plan(fresh),
            uninstalled=self._uninstalled(),
        )

    def _uninstalled(self) -> str:
        """A release of our own that a run has once left in the state, and that Helm doesn't have any more.

        The provider would upgrade what isn't there, after kube-proxy's removal. Whether the state has it, a look can't
        tell: see `finding.diff`.
        """
        own = f"{self.settings.namespace}/{self.settings.release_name}"
        kept = self.record
        if self.release is not None or kept is None or kept.adopted or kept.release != own or not kept.done:
            return ""
        by = "a `destroy` that was cut off" if kept.done == record.DESTROYED else "somebody else than this stack"
        return (
            f"Helm release {own} is gone from the cluster, uninstalled by {by}, and the stack's state may have it "
            "still: Helm would then fail to upgrade what isn't there. Nothing was changed. Run the same command with "
            "--refresh, which takes it out of the state: `pulumi up --refresh` installs it again."
        )

    def _way(self, fresh: bool) -> str:
        """Where a run in this mode has begun, by which strategy it went stays, unless the settings say another."""
        said = self.settings.strategy
        way = said or (str(self.before.get("way") or _AT_ONCE) if self.begun else _AT_ONCE if fresh else _BY_NODE)
        if way == _BY_NODE and not self.steady and self.had_kube_proxy and self.release is not None:
            try:
                self._node_by_node_says_no(self.release)
            except ProcedureError:
                # nobody is kept from going back, unless it is said how
                if said or self.settings.mode == "replace":
                    raise
                return _AT_ONCE
        return way

    def _node_by_node_says_no(self, release: helm_release.HelmRelease) -> None:
        """Where nodes are about to be handed over one after the other: whether that can be done here."""
        instead = "Nothing was changed. Or write strategy: all-at-once."
        try:
            Helm.find()
        except ProcedureError as error:
            raise ProcedureError(
                f"strategy: {error} Node by node, what the release will give the agents is read from it. {instead}"
            ) from None
        version = node_config.version(self.api)
        if not version:
            raise ProcedureError(
                "strategy: this cluster's API has no CiliumNodeConfigs, by which nodes are handed over one after the "
                f"other: Cilium has them from 1.13 on, when its operator runs. {instead}"
            )
        if theirs := node_config.others(self.api, self.settings.namespace, version):
            raise ProcedureError(
                f"strategy: CiliumNodeConfig {', '.join(theirs[:5])} in namespace {self.settings.namespace} says which "
                f"agents replace kube-proxy, and would stand against this program's own: remove it. {instead}"
            )
        daemon = self.said.get("daemon") or {}
        blocked = daemon.get("blockedConfigOverrides")
        sources, allowed = daemon.get("configSources"), daemon.get("allowedConfigOverrides")
        if blocked or allowed or (sources and "cilium-node-config" not in str(sources)):
            raise ProcedureError(
                "strategy: the values daemon.configSources, allowedConfigOverrides or blockedConfigOverrides keep "
                f"CiliumNodeConfigs from the agents, by which nodes are handed over one after the other. {instead}"
            )
        if not chart.same_version(self.chart.version, release.version):
            raise ProcedureError(
                f"ciliumVersion: {release.version} runs, {self.chart.version} is wanted, with a change of "
                "mode node by node: every agent would be restarted twice, the second time on all nodes. Change the "
                f"version in a run of its own, before or after. {instead}"
            )

    def _plan(self, fresh: bool) -> dict[str, Any]:
        """For programs, what the notes say in words: `what` is `switch-over`, `switch-back`, `beside` (Cilium beside
        kube-proxy), `alone` (replace, and there never was a kube-proxy), "" where the cluster is in this mode already.

        `nodes` are the names of those that are Ready, `leftOut` of those that aren't; `fresh`: there is no Cilium yet.
        """
        if self.steady:
            what = ""
        elif self.settings.mode == "replace":
            what = "switch-over" if self.had_kube_proxy else "alone"
        else:
            what = "switch-back" if self.before.get("mode") == "replace" else "beside"
        names = {"nodes": self.nodes.ready, "leftOut": self.nodes.left_out}
        return {"what": what, "fresh": fresh, **{key: [node.name for node in its] for key, its in names.items()}}

    def _superseded(self) -> bool:
        """Where nobody holds the lock, and the last who did was this stack's last run, nothing else was at work."""
        return self.lock is not None and (bool(self.lock.holder) or self.lock.run != self.before.get("run"))

    def _lock_notes(self) -> list[str]:
        lock = self.lock
        if lock is None or not self._superseded():
            return []
        if lock.holder:
            return [
                f"another run holds the lock on this cluster: {lock}, last renewed {lease.at(lock.renewed)} by its own "
                "clock. While it renews that, an up is refused; a lock that isn't renewed for "
                f"{lock.duration:.0f} s is taken over"
            ]
        if not self.before:
            return []
        return [f"another run has been at work on this cluster: {lock}. This one goes through every step again"]

    def _drift(self) -> drift.Drift:
        return drift.look(
            self.api,
            self.settings.mode,
            self.settings.namespace,
            self.nodes,
            self.proxy,
            self.record,
            self.release,
            self.before.get("mark") or "",
            reads_agents=self.reads_agents,
            given=self._given(),
        )

    def _given(self) -> drift.Given | None:
        """What the last run gave the release, by the settings as they were then: what they are now is no drift."""
        then = self.then
        if then is None:
            return None
        host, port = self.before["apiServer"]["host"], int(self.before["apiServer"]["port"])
        same = (then.chart, then.cilium_version) == (self.settings.chart, self.settings.cilium_version)
        if self.adopted:
            own = self.before.get("own") or {}
            version = self.chart.version if same else ""
            return drift.Given(version=version, values=merged(then.values, own), shown=own, alone=False)
        return drift.Given(
            version=self.chart.version if same else "",
            values=helm_values(then, host, port, self.before.get("podAddresses") or {}),
            shown=own_values(then, host, port),
        )

    def _namespace_says_no(self) -> None:
        namespace = self.settings.namespace
        if self.api.find(f"/api/v1/namespaces/{namespace}") is None:
            raise ProcedureError(
                f"namespace: there is no namespace {namespace} on this cluster. Nothing was changed. Create it "
                "(kubectl create "
                f"namespace {namespace}), or write kube-system."
            )

    def _nodes_say_no(self) -> None:
        if not self.nodes.all:
            raise ProcedureError(
                f"The cluster at {self.api.server} has no Linux nodes: there is nothing that could route "
                "Services. Nothing "
                "was changed. Is it the cluster that is meant (kubeContext)?"
            )
        if not self.nodes.ready:
            names = ", ".join(node.name for node in self.nodes.all[:5])
            raise ProcedureError(
                f"None of the cluster's {len(self.nodes.all)} nodes is Ready "
                f"({names}{' …' if len(self.nodes.all) > 5 else ''}). "
                "Nothing was changed. Run again when they are."
            )
        if self.settings.mode == "replace":
            without = scheduling.left_out(merged(self.base, self.settings.values), self.nodes.all)
            if without:
                which = "; ".join(f"{name} (values.{reason})" for name, reason in sorted(without.items())[:5])
                raise ProcedureError(
                    f"values: {len(without)} nodes would have no agent, and without kube-proxy nobody would route "
                    f"Services there: {which}. Nothing was changed. Let Cilium run on every node, or stay in mode "
                    "coexist."
                )

    def _kube_proxy_says_no(self) -> None:
        if self.settings.mode == "coexist" and not self.had_kube_proxy:
            rest = " (its ConfigMap is still there)" if self.proxy.configmap else ""
            raise ProcedureError(
                f"mode: there is no DaemonSet kube-system/kube-proxy on this cluster{rest}, and no backup of one: "
                "there is "
                "none that could route Services beside Cilium. Nothing was changed. Write replace, or install "
                "kube-proxy "
                "first (on kubeadm clusters: kubeadm init phase addon kube-proxy)."
            )
        if self.settings.mode == "replace" and (self.proxy.present or not self.record):
            reason = distribution.refusal(distribution.read(self.api), self.proxy.daemonset)
            self._demand(Refusal(reason, "distribution") if reason else None)
            self._demand(controllers.refusal([self.proxy.daemonset, self.proxy.configmap]))
            self._demand(controllers.coming_back(self.proxy.daemonset, self.record.returns if self.record else ()))
            if reason := ipvs.refusal(self.api, self.proxy, self.settings.namespace, self.services):
                raise ProcedureError(reason)

    def _other_network_says_no(self) -> None:
        reason = cni.refusal(cni.serving_cni(self.daemonsets, self.node_items), self.said)
        self._demand(Refusal(reason, "other-network") if reason else None)

    def _foreign_cilium_says_no(self) -> None:
        own = f"{self.settings.namespace}/{self.settings.release_name}"
        no = foreign_cilium.refusal(
            self.api,
            self.daemonsets,
            namespace=self.settings.namespace,
            release_name=self.settings.release_name,
            release=self.release,
            ours=self.ours,
        )
        if self.ours and self.steady and no and no.check:
            self.contested = no  # only where something would have to be mended it is a fight
        else:
            self._demand(no)
        if self.release and not self.ours and not self.adopted:
            what = f"The Helm release {own} (chart {self.release.version}, revision {self.release.revision})"
            if self.record is not None:
                raise ProcedureError(
                    f"{what} isn't this stack's: ConfigMap {record.LOCATION} says that on this cluster this program "
                    f"works on {self.record.release}. Nothing was changed. Write that one in namespace and releaseName."
                )
            raise ProcedureError(
                f"{what} isn't this stack's: this program installed it, for a stack whose record, ConfigMap "
                f"{record.LOCATION}, was deleted. Nothing was changed. Run `pulumi up` of that stack: it brings the "
                "record back."
            )

    def _demand(self, refusal: Refusal | None) -> None:
        """Raises ProcedureError with the refusal, unless the settings skip its check: then the preview tells it."""
        if told := checks.demand(refusal, self.settings.skip_checks):
            self.skipped.append(told)

    def _open_connections_say_no(self) -> None:
        effect = self._keeping_changes()
        if effect and self.settings.keep_connections is None:
            raise ProcedureError(
                f"keepConnections: {effect}. Nothing was changed. Write keepConnections: true or false, whichever is "
                "meant, and no other value for it."
            )

    def _rolling_back_says_no(self) -> None:
        """Helm's program rolls the release back where a switch-over fails: the time to miss it is now."""
        switched = self.record is not None and self.record.done == "replace"
        switches = self.settings.mode == "replace" and self.had_kube_proxy and not (self.steady or switched)
        if not switches or self.release is None or self.settings.on_failure == "keep":
            return
        _, beside = helm_release.newest_and_beside(self.api, self.settings.namespace, self.settings.release_name)
        if beside is None:
            return  # there is none to roll back to
        try:
            Helm.find()
        except ProcedureError as error:
            raise ProcedureError(
                f"onFailure: {error} Where the switch-over fails, the Helm release is rolled back with it. Nothing was "
                "changed. Or write onFailure: keep, and a switch-over that fails stops there."
            ) from None

    def _helm_at_work_says_no(self, unfinished: helm_release.Unfinished, own: Mapping[str, Any]) -> None:
        wanted: list[Mapping[str, Any]] = [merged(self.said, own)]
        if set_then := self.before.get("own"):
            wanted.append(merged(self.owners or {}, merged(self.before.get("values") or {}, set_then)))
        if self.adopted and not self.adopted.new:
            wanted += taking_over.rolled_back_to(self.api, self.settings.namespace, self.settings.release_name)
        if not helm_release.begun_by_us(unfinished, self.adopted is not None, wanted):
            helm_release.demand_idle(unfinished)

    def _adoption_says_no(self, adopted: Adopted, own: Mapping[str, Any], its_address: ApiServerAddress) -> None:
        adopting.demand_version(adopted, self.chart)
        ours = merged(self.settings.values, own)
        reasons = adopting.contradictions(adopted, ours, self.settings, self.chart, its_address.host, its_address.port)
        if reasons:
            raise SettingsError(reasons)
        if not self.steady or adopted.owner.digest != self.before.get("owner"):
            adopting.demand_helm()

    def _adoption_notes(self, own: Mapping[str, Any], wrong: drift.Drift) -> list[str]:
        if self.adopted is None:
            return []
        return adopting.notes(
            self.adopted,
            merged(self.said, own),
            self.chart,
            told=not self.steady or bool(wrong.findings),
            mode_changes=self.adopted.runs.replaces is not (self.settings.mode == "replace"),
        )

    def _keeping_changes(self) -> str:
        """What it does that agents which replace already will do so with pods' sockets left alone, or no longer."""
        if self.settings.mode != "replace" or self.configured.get("kube-proxy-replacement") != "true":
            return ""
        kept = keeps_connections(self.settings, self.chart.values, self.owners)
        return notes.KEPT[kept] if kept is not (self.configured.get(_KEPT) == "true") else ""

    def _address(self) -> ApiServerAddress:
        settings = self.settings
        configmap = self.proxy.configmap or (self.record.configmap if self.record else None)
        if settings.api_server_host:
            reason = address.check_host(settings.api_server_host, self.services)
            if reason:
                raise ProcedureError(reason)
            port = settings.api_server_port or 6443
            return ApiServerAddress(settings.api_server_host, port, "the setting apiServerHost")
        was = self.before.get("apiServer") or {}
        if configmap is None and str(was.get("source")).startswith(address.KUBE_PROXY):
            # kube-proxy is gone and its backup was deleted: what its ConfigMap said is still in the state
            found = ApiServerAddress(was["host"], int(was["port"]), was["source"].removesuffix(_OWN_PORT))
        elif (theirs := adopting.address(self.adopted) if self.adopted else None) and not address.check_host(
            theirs[0], self.services
        ):
            found = ApiServerAddress(*theirs, "the release's own values")
        else:
            found = address.find(self.api, configmap, self.services)
        if settings.api_server_port:
            return ApiServerAddress(found.host, settings.api_server_port, f"{found.source}{_OWN_PORT}")
        return found

    def _pod_addresses(self, fresh: bool) -> dict[str, Any]:
        """Taken once, and kept: other pod addresses on a running cluster cut every pod off."""
        if self.adopted:
            return {}
        kept = self.before.get("podAddresses")
        if kept or (kept is not None and not fresh):
            return dict(kept)
        if not fresh:
            # our own Cilium, and a state that doesn't know it: what it was given stays
            given = self.release.values if self.release else {}
            return {key: given[key] for key in _POD_ADDRESSES if key in given}
        if self.said.get("ipam"):
            return {}  # its owner has said what the pods get
        configmap = self.proxy.configmap or (self.record.configmap if self.record else None)
        return pod_addresses.helm_values(pod_addresses.read(self.api, configmap, self.nodes, self.services))

    def _notes(self, its_address: ApiServerAddress, fresh: bool, way: str) -> list[str]:
        first = []
        failed = self.record.failed if self.record else None
        if failed and failed.mode == self.settings.mode:
            first.append(notes.again(failed))
        elif self.begun:
            first.append("the last run in this mode was stopped before its end: this one goes on from there")
        if self.unfinished:
            first.append(
                f"{self.unfinished}: a run was cut off. This one marks that revision failed, so that Helm goes on"
            )
        return first + self._what_will_happen(its_address, fresh, way)

    def _what_will_happen(self, its_address: ApiServerAddress, fresh: bool, way: str) -> list[str]:
        nodes_ = self.nodes.ready
        by_node = way == _BY_NODE and not fresh
        at_a_time = node_order.count(self.settings.node_by_node.batch_size, len(nodes_)) if by_node else 0
        already = [node for node in nodes_ if node.labels.get(routing.LABEL) == routing.CILIUM]
        common: dict[str, Any] = {
            "left_out": [node.name for node in self.nodes.left_out],
            "address": joined(its_address.host, its_address.port),
            "source": its_address.source,
        }
        again: dict[str, Any] = {
            "values": merged(self.base, self.settings.values),
            "masqueraded": self.configured.get("enable-bpf-masquerade") == "true",
        }
        if self.settings.mode == "replace":
            owner = controllers.warning(self.proxy.daemonset) if self.proxy.daemonset else None
            return (
                ([owner] if owner else [])
                + ([ipvs.NOTE] if self.proxy.mode == "ipvs" else [])
                + notes.switch_over(
                    had_kube_proxy=self.had_kube_proxy,
                    nodes=len(self.nodes.ready),
                    balancers=self.services.load_balancers(),
                    fresh=fresh,
                    kept=keeps_connections(self.settings, self.chart.values, self.owners),
                    policies={policy: self.services.from_outside(policy) for policy in ("Cluster", "Local")},
                    at_a_time=at_a_time,
                    already=len(already),
                    **again,
                    **common,
                )
                + self._cut_off(fresh)
            )
        if self.before.get("mode") == "replace":
            return notes.switch_back(nodes=len(nodes_), at_a_time=at_a_time, **again, **common)
        return notes.beside(**common) + self._cut_off(fresh)

    def _cut_off(self, fresh: bool) -> list[str]:
        """Pods that run on another network than Cilium's: no DaemonSet need show it (bridge, kubenet)."""
        if not fresh or self.settings.values.get("cni"):
            return []
        running = self.api.list("/api/v1/pods", fieldSelector="status.phase=Running")
        return notes.cut_off([pod for pod in running if not pod["spec"].get("hostNetwork")])
