"""The policy pack: `pulumi preview --policy-pack policies`."""

from pulumi_policy import EnforcementLevel, PolicyPack

from held import POLICIES

PolicyPack("kube-proxy-replacement", POLICIES, enforcement_level=EnforcementLevel.MANDATORY)
