"""Several clusters from one program: a component each, in each cluster's own mode, one after the other."""

import pulumi

from kube_proxy_replacement import KubeProxyReplacement

config = pulumi.Config()

networks: dict[str, KubeProxyReplacement] = {}
for its in config.require_object("clusters"):
    networks[its["name"]] = KubeProxyReplacement(
        its["name"],
        {
            "mode": its["mode"],
            "cilium_version": "1.18.6",
            "chart": config.require("chart"),
            "kube_context": its["kubeContext"],
        },
        # Where a resource fails, the engine begins no other one: a cluster that was on its way at the same time would
        # be left half-way. So each waits for those before it.
        pulumi.ResourceOptions(depends_on=list(networks.values())),
    )

pulumi.export("clusters", {name: network.cluster for name, network in networks.items()})
pulumi.export("agents", {name: network.agents for name, network in networks.items()})
