"""Resource options are passed on to what is in the component, as with any other."""

import pulumi
import pulumi_kubernetes as kubernetes

from kube_proxy_replacement import KubeProxyReplacement

config = pulumi.Config()
context, former = config.require("kubeContext"), config.get("formerName")


def few_revisions(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
    """What no setting says: how many revisions Helm keeps. (Helm values belong into the setting `values`: those that
    a transform adds are not held against the mode.)
    """
    if args.type_ != "kubernetes:helm.sh/v3:Release":
        return None
    return pulumi.ResourceTransformResult({**args.props, "maxHistory": 5}, args.opts)


network = KubeProxyReplacement(
    config.require("name"),
    {
        "mode": config.require("mode"),
        "cilium_version": "1.18.6",
        "chart": config.require("chart"),
        "kube_context": context,
    },
    pulumi.ResourceOptions(
        # leads to the same cluster as kube_context; another one is refused
        providers=[kubernetes.Provider("cluster", context=context, cluster_identifier="options")],
        protect=config.require_bool("protect"),
        transforms=[few_revisions],
        # renamed: what is there stays as it is
        aliases=[pulumi.Alias(name=former)] if former else None,
    ),
)

pulumi.export("agents", network.agents)
