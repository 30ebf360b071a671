"""The settings from `pulumi config`, as the component's arguments."""

from __future__ import annotations

from typing import Any, cast

import pulumi

from . import settings
from .component import KubeProxyReplacementArgs

_SHAPES = {
    "values": "it takes Helm values by their names, such as values.bpf.masquerade.",
    "loadBalancer": "it takes mode, algorithm, acceleration and sessionAffinity.",
}


def arguments(config: pulumi.Config) -> KubeProxyReplacementArgs:
    """Every setting of the stack that is set.

    Raises pulumi.RunError naming a setting that doesn't exist, or isn't as it must be, and what to write instead.
    """
    prefix = f"{config.name}:"
    # pulumi.Config answers for a key that it is asked for; which keys there are, only the runtime knows
    everything = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    names = [key.removeprefix(prefix) for key in everything if key.startswith(prefix)]
    unknown = settings.unknown(names)
    if unknown:
        raise pulumi.RunError("\n".join(unknown))
    if config.get("kubeconfig") and not pulumi.runtime.is_config_secret(f"{prefix}kubeconfig"):
        raise pulumi.RunError(
            "kubeconfig: it is plain text in the stack's file, for everyone who reads the repository. Write it with "
            "`pulumi config set --secret kubeconfig`, and take the credentials that were in it out of use."
        )
    given = {_snake(name): _value(config, name) for name in names}
    return cast(KubeProxyReplacementArgs, {key: value for key, value in given.items() if value not in (None, "")})


def _value(config: pulumi.Config, name: str) -> Any:
    try:
        if name in _SHAPES:
            value = config.get_object(name)
            if value and not isinstance(value, dict):
                raise pulumi.RunError(f"{name}: {value!r} isn't an object; {_SHAPES[name]}")
            return {_snake(k): v for k, v in value.items()} if name == "loadBalancer" and value else value
        if name in ("apiServerPort", "timeoutSeconds"):
            return config.get_int(name)
        if name == "hubble":
            return config.get_bool(name)
        return config.get(name)
    except (pulumi.ConfigTypeError, ValueError, AttributeError) as error:
        raise pulumi.RunError(f"{name}: {error}") from None


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
