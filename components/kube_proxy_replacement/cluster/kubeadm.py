"""kubeadm's own knowledge of kube-proxy: `proxy.disabled` in the ConfigMap `kubeadm-config`.

From kubeadm 1.32.1 on, `kubeadm upgrade` installs kube-proxy again unless this says otherwise; the missing
ConfigMap `kube-proxy` alone no longer keeps it from that (kubernetes/kubeadm#3137, cmd/phases/upgrade/addons.go).
"""

from __future__ import annotations

import yaml

from .api import Api, Object

_PATH = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
_KEY = "ClusterConfiguration"
_KNOWS_DISABLED = "kubeadm.k8s.io/v1beta4"


def text(api: Api) -> str | None:
    """The ClusterConfiguration of a kubeadm that knows `proxy.disabled` (v1beta4), else None."""
    found = ((api.find(_PATH) or {}).get("data") or {}).get(_KEY)
    return found if found and _parsed(found).get("apiVersion") == _KNOWS_DISABLED else None


def disabled(configuration: str) -> bool:
    return bool((_parsed(configuration).get("proxy") or {}).get("disabled"))


def with_disabled(configuration: str, value: bool) -> str:
    """The same configuration with `proxy.disabled` set, or without it where the value is False."""
    parsed = _parsed(configuration)
    proxy = {key: item for key, item in (parsed.get("proxy") or {}).items() if key != "disabled"}
    parsed["proxy"] = proxy | ({"disabled": True} if value else {})
    return str(yaml.safe_dump(parsed, sort_keys=False, width=10_000))


def write(api: Api, configuration: str) -> None:
    api.merge(_PATH, {"data": {_KEY: configuration}})


def undo(api: Api, change: dict[str, str]) -> bool:
    """Puts back what was before our change; where someone else has changed the text since, only our key.

    Args:
        change: `{"before": TEXT, "after": TEXT}` as recorded.
    Returns: whether anything had to be changed.
    """
    now = text(api)
    if now is None or now == change["before"]:
        return False
    if now == change["after"]:
        write(api, change["before"])
        return True
    if disabled(now) == disabled(change["before"]):
        return False
    write(api, with_disabled(now, disabled(change["before"])))
    return True


def _parsed(configuration: str) -> Object:
    try:
        parsed = yaml.safe_load(configuration)
    except yaml.YAMLError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
