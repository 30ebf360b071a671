"""The Secret in which an adopted release's owner finds his own values: as they were before this program changed any.

`kube-system/kube-proxy-replacement`, beside the ConfigMap of that name. A Secret, since Helm values may hold keys and
tokens; they are nowhere else but in Helm's own Secrets. Its name and its keys are in people's clusters and never
change.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import read_back
from .api import Api
from .errors import ProcedureError

LOCATION = read_back.LOCATION
_COLLECTION = f"/api/v1/namespaces/{read_back.NAMESPACE}/secrets"
_PATH = f"{_COLLECTION}/{read_back.NAME}"
_KEY = "owner.json"


@dataclass(frozen=True)
class Owner:
    """What the release's owner has set.

    Attributes:
        release: `NAMESPACE/NAME`.
        version: the chart's, when this was written.
        revision: the newest one of his in which his values have been looked at.
        values: his Helm values, without the chart's defaults and without ours.
    """

    release: str
    version: str
    revision: int
    values: Mapping[str, Any] = field(repr=False)

    @property
    def digest(self) -> str:
        """Changes with his values, and says nothing of them."""
        return hashlib.sha256(_json(self.values).encode()).hexdigest()[:16]


def read(api: Api) -> Owner | None:
    """Raises ProcedureError where it isn't what was written."""
    item = api.find(_PATH)
    return None if item is None else _parse(item.get("data") or {})


def write(api: Api, owner: Owner) -> None:
    """Writes it and reads it back. Raises ProcedureError where the two differ."""
    text = _json(
        {"release": owner.release, "version": owner.version, "revision": owner.revision, "values": owner.values}
    )
    data = {key: base64.b64encode(its.encode()).decode() for key, its in {_KEY: text, "sha256": _digest(text)}.items()}
    read_back.write(
        api,
        _COLLECTION,
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"},
        data,
        overwrite=lambda body: api.replace(_PATH, body),
        otherwise=f"The owner's Helm values in Secret {LOCATION} read back otherwise than they were written: something "
        "else changes it. The release was not changed.",
    )


def remove(api: Api) -> None:
    api.delete(_PATH)


def _parse(data: Mapping[str, str]) -> Owner:
    text, digest = (base64.b64decode(data.get(key) or "").decode("utf-8", "replace") for key in (_KEY, "sha256"))
    if digest != _digest(text):
        raise ProcedureError(
            f"The owner's Helm values in Secret {LOCATION} were changed by someone: their checksum is wrong. The "
            "release was not changed. Put back its data, or delete that Secret: the next `pulumi up` makes it anew "
            "from the revisions that Helm keeps."
        )
    its = json.loads(text)
    return Owner(its["release"], its["version"], int(its["revision"]), its["values"])


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
