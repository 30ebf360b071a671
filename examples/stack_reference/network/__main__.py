"""The network of a cluster that another stack makes: its kubeconfig comes from that stack's outputs."""

import pulumi

from kube_proxy_replacement import KubeProxyReplacement

config = pulumi.Config()
cluster = pulumi.StackReference(config.require("cluster"))

network = KubeProxyReplacement(
    "network",
    {
        "mode": config.require("mode"),
        "cilium_version": "1.18.6",
        "chart": config.require("chart"),
        # require_output: of an output that isn't there, get_output makes None, and None is the ambient kubeconfig
        "kubeconfig": cluster.require_output("kubeconfig"),
    },
)

pulumi.export("agents", network.agents)
pulumi.export("apiServer", network.api_server)
