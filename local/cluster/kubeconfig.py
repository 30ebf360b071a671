"""Kubeconfig files."""

import base64
import json
import os
from pathlib import Path

from local.cluster.certificates import KeyPair, Pki


def write(file: Path, server: str, user: str, pki: Pki, client: KeyPair) -> None:
    """Write a kubeconfig that carries its certificates with it. JSON is YAML too."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "kubernetes",
                "cluster": {"server": server, "certificate-authority-data": _encoded(pki.ca.certificate)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _encoded(client.certificate),
                    "client-key-data": _encoded(client.key),
                },
            }
        ],
        "contexts": [
            {"name": f"{user}@kubernetes", "context": {"cluster": "kubernetes", "user": user}},
        ],
        "current-context": f"{user}@kubernetes",
    }
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")


def _encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
