"""A real cluster on this machine: real kubelets, kube-proxy and Cilium on nodes in namespaces of their own."""

from local.real.cluster import RealCluster

__all__ = ["RealCluster"]
