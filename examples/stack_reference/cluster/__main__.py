"""The stack that makes a cluster. Here it only hands on the kubeconfig of one that is there already."""

from pathlib import Path

import pulumi

config = pulumi.Config()

# as a secret: then it is one in the stack that reads it, too
pulumi.export("kubeconfig", pulumi.Output.secret(Path(config.require("kubeconfigFile")).read_text()))
