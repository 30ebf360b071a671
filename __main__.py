"""The program: settings in, one component, outputs out."""

import gc

import pulumi

from kube_proxy_replacement import KubeProxyReplacement
from kube_proxy_replacement.config import arguments

gc.freeze()  # at its end Python would collect all that was imported, while the engine waits

replacement = KubeProxyReplacement("kube-proxy-replacement", arguments(pulumi.Config()))

for name, value in replacement.outputs().items():
    pulumi.export(name, value)
