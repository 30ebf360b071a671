"""The settings from `pulumi config`: the component's arguments, and what the program alone has."""

# without `from __future__ import annotations`: Pulumi's analyzer of components reads what is written here as types
import difflib
import keyword
from typing import Any, NotRequired, TypedDict, cast

import pulumi

from . import hiding, settings
from .cluster import checks
from .component import KubeProxyReplacementArgs

_NEAR = 0.75
_ALIKE = ("kube-proxy", "kubeproxy", "cilium")

_SHAPES = {
    "values": "it takes Helm values by their names, such as values.bpf.masquerade.",
    "loadBalancer": "it takes mode, algorithm, acceleration and sessionAffinity.",
    "nodeByNode": "it takes batchSize, order, settleSeconds, canaries, continue, pauseAfter and drain.",
}
_LIST = f"it takes a list of names of checks ({', '.join(checks.NAMES)})."


class ProgramSettings(TypedDict):
    """The settings of the program itself; in another program the component's `ResourceOptions` have them."""

    protect: NotRequired[bool]
    """Whether `pulumi destroy` is refused, before it has changed anything. Default: `false`.

    All resources are protected, not the Release alone: `destroy` takes what depends on it first, and would have
    brought kube-proxy back before it is refused. A change of mode is no deletion, and goes on as ever. To destroy: set
    `false`, `pulumi up` (which changes nothing in the cluster), `pulumi destroy`. `pulumi state unprotect`, which the
    refusal offers, is for one resource only.
    """


PROGRAM = tuple(ProgramSettings.__annotations__)
"""The names of the program's own settings."""

_NAMES = (*settings.NAMES, *PROGRAM)


def options(config: pulumi.Config) -> pulumi.ResourceOptions:
    """The component's options, as the stack has them.

    Raises pulumi.RunError where one isn't as it must be.
    """
    return pulumi.ResourceOptions(protect=_value(config, "protect") or None)


def arguments(config: pulumi.Config) -> KubeProxyReplacementArgs:
    """Every setting of the stack that is set, but for the program's own.

    Raises pulumi.RunError naming a setting that doesn't exist, or isn't as it must be, and what to write instead.
    """
    prefix = f"{config.name}:"
    # pulumi.Config answers for a key that it is asked for; which keys there are, only the runtime knows
    everything = {**pulumi.runtime.config.get_config_env(), **pulumi.runtime.config.CONFIG.get()}
    names = [key.removeprefix(prefix) for key in everything if key.startswith(prefix)]
    reasons = settings.unknown(names, _NAMES) + [reason for key in everything if (reason := _meant(key, config.name))]
    if reasons:
        raise pulumi.RunError("\n".join(sorted(reasons)))
    if config.get("kubeconfig") and not pulumi.runtime.is_config_secret(f"{prefix}kubeconfig"):
        raise pulumi.RunError(
            "kubeconfig: it is plain text in the stack's file, for everyone who reads the repository. Write it with "
            "`pulumi config set --secret kubeconfig`, and take the credentials that were in it out of use."
        )
    given = {name: value for name in names if name not in PROGRAM and (value := _value(config, name)) not in (None, "")}
    # of an object in which one value is encrypted, nobody can say here which one it is: all of it is secret. The
    # component itself makes a kubeconfig one
    encrypted = [name for name in given if pulumi.runtime.is_config_secret(f"{prefix}{name}") and name != "kubeconfig"]
    try:
        settings.parse(given)
    except settings.SettingsError as error:
        # the look says it too; here it comes at once, and without a resource's name before it
        raise pulumi.RunError(hiding.hidden(str(error), {name: given[name] for name in encrypted})) from None
    for name in ("loadBalancer", "nodeByNode"):
        if given.get(name):
            given[name] = {_snake(key): value for key, value in given[name].items()}
    secret = {name: pulumi.Output.secret(given[name]) for name in encrypted}
    return cast(KubeProxyReplacementArgs, {_snake(name): value for name, value in {**given, **secret}.items()})


def _meant(key: str, own: str) -> str | None:
    """Why a key of another namespace was probably meant for this program, which would pass it over without a word."""
    namespace, _, name = key.partition(":")
    if namespace == own:
        return None
    if namespace == "kubernetes" and name in ("context", "kubeconfig", "cluster"):
        setting = "kubeContext" if name == "context" else "kubeconfig"
        return f"{key}: this program doesn't read it, it has a provider of its own; write {own}:{setting}."
    near = difflib.SequenceMatcher(None, namespace, own).ratio() > _NEAR
    if name in _NAMES and (near or namespace in _ALIKE):
        return f"{key}: the namespace is misspelt, and nothing reads it; write {own}:{name}."
    return None


def _value(config: pulumi.Config, name: str) -> Any:
    try:
        if name in _SHAPES:
            value = config.get_object(name)
            if value and not isinstance(value, dict):
                raise pulumi.RunError(f"{name}: {value!r} isn't an object; {_SHAPES[name]}")
            return value
        if name == "skipChecks":
            value = config.get_object(name) if config.get(name) else None
            if value and not isinstance(value, list):
                raise pulumi.RunError(f"{name}: {value!r} isn't a list; {_LIST}")
            return value
        if name in ("apiServerPort", "timeoutSeconds"):
            return config.get_int(name)
        if name in ("hubble", "keepConnections", "protect"):
            return config.get_bool(name) if config.get(name) else None
        return config.get(name)
    except (pulumi.ConfigTypeError, ValueError, AttributeError) as error:
        raise pulumi.RunError(f"{name}: {error}") from None


def _snake(name: str) -> str:
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return f"{snake}_" if keyword.iskeyword(snake) else snake
