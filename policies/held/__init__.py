"""What the owner of a cluster wants held, one module a policy.

It shares no code with the program that it judges: what is wrong there would be wrong here too.
"""

from pulumi_policy import Policy

from held import address, order, protection, triggers, version

__all__ = ["POLICIES"]

POLICIES: list[Policy] = [version.POLICY, triggers.POLICY, address.POLICY, protection.POLICY, order.POLICY]
"""In the order of the tree, the one on the whole stack last."""
