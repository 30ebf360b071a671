"""The program: settings in, one component, outputs out."""

import gc

import pulumi

from kube_proxy_replacement import KubeProxyReplacement
from kube_proxy_replacement.config import arguments, options

gc.freeze()  # at its end Python would collect all that was imported, while the engine waits

config = pulumi.Config()
replacement = KubeProxyReplacement("kube-proxy-replacement", arguments(config), options(config))

for name, value in replacement.outputs().items():
    pulumi.export(name, value)
