"""In the same stack after it: what needs a network that is ready."""

import pulumi
import pulumi_kubernetes as kubernetes

from kube_proxy_replacement import KubeProxyReplacement

config = pulumi.Config()
context = config.require("kubeContext")

network = KubeProxyReplacement(
    "network",
    {
        "mode": config.require("mode"),
        "cilium_version": "1.18.6",
        "chart": config.require("chart"),
        "kube_context": context,
    },
)

# depends_on the component is to depend on all that is in it: every agent is switched, old rules are cleaned. Cilium's
# own kinds are there by then. On `destroy` it goes first.
kubernetes.apiextensions.CustomResource(
    "only-from-within",
    api_version="cilium.io/v2",
    kind="CiliumNetworkPolicy",
    metadata={"name": "only-from-within", "namespace": "default"},
    spec={"endpointSelector": {}, "ingress": [{"fromEntities": ["cluster"]}]},
    opts=pulumi.ResourceOptions(
        provider=kubernetes.Provider("cluster", context=context, cluster_identifier="shop"),
        depends_on=[network],
    ),
)

pulumi.export("agents", network.agents)
