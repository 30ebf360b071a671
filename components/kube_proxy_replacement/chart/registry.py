"""Charts out of an OCI registry, by the distribution API, without credentials.

https://github.com/opencontainers/distribution-spec (manifests, blobs, tags) and the token dance that
registries ask for: 401 with `WWW-Authenticate: Bearer realm=…`, a token from there, the request again.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urlencode

from . import cache, versions
from .address import is_loopback, quoted, shown, split
from .download import Answer, DownloadError, get
from .errors import ChartError
from .files import ARCHIVE_LIMIT

CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_SMALL = 4 << 20
_NAME = re.compile(r"[a-z0-9._-]+(?:/[a-z0-9._-]+)*")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def fetch(address: str, version: str) -> bytes:
    """The archive of one version (tag) of a chart at an `oci://…` address.

    The manifest is asked for in every run; the archive travels only when it isn't kept already.

    Raises:
        ChartError: the address makes no sense, or the registry, the chart, the version or the archive
            isn't to be had.
    """
    return _Repository(address).archive(version)


class _Repository:
    """One repository of a registry, with the token that it gave for reading."""

    def __init__(self, address: str) -> None:
        parts = split(address)
        self._shown = shown(address)
        path = parts.path.strip("/") if parts else ""
        if parts is not None and re.search(r"[:@][^/]*$", path):
            raise ChartError(
                "chart",
                f"{self._shown} holds a tag or a digest",
                "Write the address without it, and the version in ciliumVersion",
            )
        if parts is None or not _NAME.fullmatch(path):
            raise ChartError(
                "chart",
                f"{self._shown} is no address of a chart in a registry",
                "Write oci://HOST/PATH/cilium, in lower case, the chart's own name included",
            )
        # A registry on this machine is spoken to in plain text, as container tools do.
        scheme = "http" if is_loopback(parts.hostname or "") else "https"
        self._base = f"{scheme}://{parts.netloc}/v2/{path}"
        self._token: str | None = None

    def archive(self, version: str) -> bytes:
        manifest = self._manifest(version)
        digest = self._chart_digest(manifest)
        data = cache.archive(digest)
        if data is None:
            answer = self._get(f"blobs/sha256:{digest}", limit=ARCHIVE_LIMIT)
            if answer.status != 200:
                raise self._unreachable(f"its archive answered {answer.status}")
            data = answer.body
            if cache.digest_of(data) != digest:
                raise ChartError(
                    "chart",
                    f"the archive that {self._shown} sent has sha256 {cache.digest_of(data)}, where its "
                    f"manifest says {digest}",
                    "Try again later; if it stays so, don't use this registry",
                )
            cache.keep_archive(digest, data)
        return data

    def _manifest(self, version: str) -> dict[str, Any]:
        # A tag can't hold «+»: Helm writes «_» in its place.
        tag = version.replace("+", "_")
        bare = versions.bare(tag)
        for candidate in dict.fromkeys((tag, bare, f"v{bare}")):
            answer = self._get(f"manifests/{quote(candidate, safe='')}", limit=_SMALL, headers={"Accept": _MANIFEST})
            if answer.status == 200:
                return self._checked(answer)
            if answer.status not in (400, 404):
                raise self._unreachable(f"it answered {answer.status}")
        known = versions.advice(version, self._tags())
        raise ChartError(
            "ciliumVersion",
            f"{self._shown} has no version {quoted(version)}"
            + ("" if known else " (and doesn't say which it has: is the address right?)"),
            f"Write one that it has, in full: {known}"
            if known
            else "Check both the address in chart and the version in ciliumVersion",
        )

    def _checked(self, answer: Answer) -> dict[str, Any]:
        said = _DIGEST.fullmatch(answer.headers.get("Docker-Content-Digest", ""))
        if said is not None and said[1] != cache.digest_of(answer.body):
            raise self._unreachable("its manifest isn't what its digest says")
        try:
            manifest = json.loads(answer.body)
        except (ValueError, RecursionError):
            manifest = None
        if not isinstance(manifest, dict):
            raise self._unreachable("its manifest isn't JSON")
        return manifest

    def _chart_digest(self, manifest: dict[str, Any]) -> str:
        layers = manifest.get("layers")
        for layer in layers if isinstance(layers, list) else ():
            if isinstance(layer, dict) and layer.get("mediaType") == CHART_LAYER:
                digest = _DIGEST.fullmatch(str(layer.get("digest")))
                if digest is not None:
                    return digest[1]
        raise self._unreachable("what lies there is no Helm chart (an image, perhaps)")

    def _tags(self) -> list[str]:
        try:
            answer = self._get("tags/list", limit=_SMALL)
            tags = json.loads(answer.body).get("tags") if answer.status == 200 else []
        except (ChartError, ValueError, AttributeError, RecursionError):
            return []  # only a hint would be made from it
        return [str(tag).replace("_", "+") for tag in tags] if isinstance(tags, list) else []

    def _get(self, path: str, *, limit: int, headers: dict[str, str] | None = None) -> Answer:
        url = f"{self._base}/{path}"
        try:
            answer = get(url, limit=limit, headers=headers, token=self._token)
            if answer.status == 401:
                self._token = self._ask_for_token(answer.headers.get("WWW-Authenticate", ""))
                answer = get(url, limit=limit, headers=headers, token=self._token)
        except DownloadError as error:
            raise self._unreachable(str(error)) from None
        if answer.status in (401, 403):
            raise ChartError(
                "chart",
                f"{self._shown} isn't readable without credentials (it answered {answer.status})",
                "Check the address; for a chart that needs credentials, `helm pull` it and give the archive",
            )
        return answer

    def _ask_for_token(self, challenge: str) -> str | None:
        scheme, _, rest = challenge.partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        realm = parameters.pop("realm", "")
        parts = split(realm)
        if scheme.lower() != "bearer" or parts is None:
            return None
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise DownloadError(f"it wants a token from {shown(realm)}, which isn't https")
        query = urlencode({name: parameters[name] for name in ("service", "scope") if name in parameters})
        answer = get(f"{realm}{'&' if parts.query else '?'}{query}", limit=_SMALL)
        try:
            given = json.loads(answer.body) if answer.status == 200 else {}
            token = given.get("token") or given.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        return token if isinstance(token, str) and token.isascii() and token.isprintable() else None

    def _unreachable(self, why: str) -> ChartError:
        return ChartError(
            "chart",
            f"{self._shown} can't be read: {why}",
            "Write the address of a chart in a registry (oci://HOST/PATH/cilium), a Helm repository's "
            "https:// address, or a local folder or archive; behind a proxy, set HTTPS_PROXY",
        )
