"""What this program keeps in the cluster, written and read back before anything relies on it."""

from __future__ import annotations

from collections.abc import Callable

from .api import Api, Object
from .errors import ApiError, ProcedureError

NAMESPACE = "kube-system"
NAME = "kube-proxy-replacement"
LOCATION = f"{NAMESPACE}/{NAME}"


def write(
    api: Api,
    collection: str,
    kind: Object,
    data: dict[str, str],
    *,
    overwrite: Callable[[Object], object],
    otherwise: str,
) -> Object:
    """Creates the object of this program's name, or overwrites it, and returns its data as read back.

    Args:
        kind: `apiVersion`, `kind` and what else it has beside metadata and data.
        overwrite: told the whole object, where one of the name is there.
        otherwise: what the ProcedureError says that is raised where it reads back otherwise than it was written.
    """
    metadata = {"name": NAME, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/managed-by": NAME}}
    body: Object = {**kind, "metadata": metadata, "data": data}
    try:
        api.create(collection, body)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        overwrite(body)
    written: Object = api.get(f"{collection}/{NAME}").get("data") or {}
    if {key: written.get(key) for key in data} != data:
        raise ProcedureError(otherwise)
    return written
