"""A cluster and its network in one program: what the network needs to know is unknown in the first preview."""

from typing import Any

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes
import yaml

from kube_proxy_replacement import KubeProxyReplacement

config = pulumi.Config()

# What makes the cluster. On machines of yours a remote.Command that runs kubeadm, and prints what it has written.
cluster = command.local.Command(
    "cluster",
    create='cat "$ADMIN_CONF"',
    environment={"ADMIN_CONF": config.require("adminConf")},
    logging=command.local.Logging.NONE,  # else the kubeconfig is in the display
    opts=pulumi.ResourceOptions(additional_secret_outputs=["stdout"]),
)
kubeconfig = cluster.stdout


def server(text: str) -> dict[str, Any]:
    """Where the cluster answers: `{host, port}`."""
    host, _, port = yaml.safe_load(text)["clusters"][0]["cluster"]["server"].removeprefix("https://").rpartition(":")
    return {"host": host, "port": int(port)}


address = pulumi.Output.unsecret(kubeconfig.apply(server))  # of the kubeconfig this is no secret

provider = kubernetes.Provider(
    "cluster",
    kubeconfig=kubeconfig,
    # without it a kubeconfig that changes, or isn't known yet, replaces the provider and all that it has made
    cluster_identifier="platform",
)

network = KubeProxyReplacement(
    "network",
    {
        "mode": config.require("mode"),
        "cilium_version": "1.18.6",
        "chart": config.require("chart"),
        "kubeconfig": kubeconfig,
        "api_server_host": address["host"],
        "api_server_port": address["port"],
    },
    pulumi.ResourceOptions(provider=provider),
)

pulumi.export("agents", network.agents)
pulumi.export("apiServer", network.api_server)
