"""By the Automation API: one cluster after the other, each looked at before the next one is begun.

python roll_out.py replace CONTEXT …
"""

import argparse
import re
import sys

import pulumi
from pulumi import automation

from kube_proxy_replacement import KubeProxyReplacement


def roll_out(context: str, mode: str, chart: str) -> None:
    """Brings a cluster into a mode. Raises automation.CommandError where the engine fails."""

    def program() -> None:
        network = KubeProxyReplacement(
            "network", {"mode": mode, "cilium_version": "1.18.6", "chart": chart, "kube_context": context}
        )
        pulumi.export("agents", network.agents)

    stack = automation.create_or_select_stack(
        stack_name=re.sub(r"[^\w.-]", "-", context),  # kubeadm's is kubernetes-admin@kubernetes
        project_name="fleet",
        program=program,
        # the steps run in a Python that has the package: this one
        opts=automation.LocalWorkspaceOptions(env_vars={"PULUMI_PYTHON_CMD": sys.executable}),
    )
    print(f"{context}: {stack.preview().change_summary}")
    agents = stack.up(on_output=print).outputs["agents"].value
    wanted = agents["desired"] if mode == "replace" else 0
    if agents["switched"] != wanted:
        sys.exit(f"{context}: {agents}; the clusters after it are left as they are")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("mode", choices=["coexist", "replace"])
    arguments.add_argument("context", nargs="+")
    arguments.add_argument("--chart", default="", help="a mirror of Cilium's chart, or a folder that has it")
    told = arguments.parse_args()
    for each in told.context:
        roll_out(each, told.mode, told.chart)
