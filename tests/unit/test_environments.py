"""The stack files that a team copies, and those that docs/environments.md shows, through the program's own settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pulumi
import pytest
import yaml

from kube_proxy_replacement.config import arguments, options

ROOT = Path(__file__).parents[2]
PROJECT = "kube-proxy-replacement"
PAGE = ROOT / "docs" / "environments.md"
STACKS = {
    file.name.split(".")[1]: file
    for file in (ROOT / "stacks").glob("Pulumi.*.yaml")
    if file.name != "Pulumi.local.yaml"  # of `make up`, and not in Git
}


@pytest.fixture(autouse=True)
def no_config_of_others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PULUMI_CONFIG", raising=False)
    yield
    pulumi.runtime.set_all_config({}, [])


def read(config: Mapping[str, Any], secrets: tuple[str, ...] = ()) -> tuple[dict[str, Any], pulumi.ResourceOptions]:
    """The component's arguments and options, from a stack's `config:` and the project's defaults, as the engine merges
    them: texts and numbers as text, the rest as JSON.
    """
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    defaults = {f"{PROJECT}:{name}": its["default"] for name, its in declared.items() if "default" in its}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in {**defaults, **config}.items()
    }
    pulumi.runtime.set_all_config(texts, list(secrets))
    ours = pulumi.Config(PROJECT)
    return cast(dict[str, Any], arguments(ours)), options(ours)


def of(stack: str) -> tuple[dict[str, Any], pulumi.ResourceOptions]:
    content = yaml.safe_load(STACKS[stack].read_text())
    assert set(content) == {"config"}, "nothing of one backend: no environment, no salt"
    return read(content["config"])


def test_there_are_three_environments() -> None:
    assert set(STACKS) == {"dev", "staging", "prod"}


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_file_is_accepted_and_names_its_cluster_and_its_version(stack: str) -> None:
    given, _ = of(stack)
    assert given["kube_context"] == stack
    assert re.fullmatch(r"\d+\.\d+\.\d+", given["cilium_version"])


def test_prod_alone_is_protected() -> None:
    assert [stack for stack in STACKS if of(stack)[1].protect] == ["prod"]


def test_prod_is_rolled_out_one_agent_at_a_time_and_with_more_patience() -> None:
    given, _ = of("prod")
    assert given["values"] == {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}}}
    assert given["timeout_seconds"] > of("staging")[0]["timeout_seconds"] == of("dev")[0]["timeout_seconds"]


def test_what_all_share_stands_once() -> None:
    """No file says again what Pulumi.yaml says."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    for stack, file in STACKS.items():
        for key, value in yaml.safe_load(file.read_text())["config"].items():
            assert value != declared[key.removeprefix(f"{PROJECT}:")].get("default"), f"{stack}: {key}"


def shown() -> dict[str, list[dict[str, Any]]]:
    """The page's YAML, by what its first line says that it is."""
    found: dict[str, list[dict[str, Any]]] = {}
    for block in re.findall(r"^```yaml\n# (.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL):
        name, _, content = block.partition("\n")
        found.setdefault(name, []).append(yaml.safe_load(content))
    return found


def test_a_stack_file_with_an_environment_gets_from_it_what_it_lacks() -> None:
    """Pulumi lays the stack's own `config` on top of the environment's `pulumiConfig` (ESC itself isn't run here)."""
    (stack,) = shown()["stacks/Pulumi.prod.yaml"]
    as_setting, as_file = (its["values"] for its in shown()["the ESC environment clusters/prod"])
    assert stack["environment"] == ["clusters/prod"]
    assert set(as_setting["prod"]["kubeconfig"]) == set(as_file["prod"]["kubeconfig"]) == {"fn::secret"}
    assert as_file["files"] == {"KUBECONFIG": "${prod.kubeconfig}"}
    assert as_setting["pulumiConfig"][f"{PROJECT}:kubeconfig"] == "${prod.kubeconfig}"
    given, _ = read({**as_setting["pulumiConfig"], **stack["config"]}, secrets=(f"{PROJECT}:kubeconfig",))
    assert {"mode", "cilium_version", "kubeconfig", "kube_context"} <= set(given)
