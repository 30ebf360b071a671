"""What is done to a cluster, or read from it. Nothing here knows Pulumi."""
