"""The program: settings in, one component, outputs out."""

import pulumi

from kube_proxy_replacement import KubeProxyReplacement
from kube_proxy_replacement.config import arguments

replacement = KubeProxyReplacement("kube-proxy-replacement", arguments(pulumi.Config()))

for name, value in replacement.outputs().items():
    pulumi.export(name, value)
