"""What a preview says, written down for people who weren't there: a comment on a pull request, an issue about drift.

    pulumi preview --event-log events.json; python -m kube_proxy_replacement.review comment events.json --stack prod

It reads the engine's event log and nothing else; no Pulumi in here.
"""
