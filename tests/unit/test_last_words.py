"""Why a pod doesn't run, in its containers' own words; short, and without credentials."""

from __future__ import annotations

from typing import Any

import pytest

from kube_proxy_replacement.cluster import last_words
from kube_proxy_replacement.cluster.errors import ApiError

from .fakes import FakeApi, agent_pod

POD = "/api/v1/namespaces/kube-system/pods/cilium-n1-a"
LOG = f"{POD}/log"
CRASHED = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
ENDED = {"reason": "Error", "exitCode": 1}
PULL = (
    'Back-off pulling image "example/agent:v9": ErrImagePull: failed to pull and unpack image "example/agent:v9": '
    "failed to resolve reference: not found"
)


def of(api: FakeApi) -> str:
    return last_words.of(api, "kube-system", "cilium-n1-a")


def agent(state: Any, last: Any = None) -> FakeApi:
    return FakeApi().put(agent_pod("n1", ready=False, state=state, last=last))


class TestAPod:
    def test_an_image_that_can_not_be_pulled(self) -> None:
        api = agent({"waiting": {"reason": "ImagePullBackOff", "message": PULL}})
        assert of(api) == f"container cilium-agent: ImagePullBackOff: {PULL}"

    def test_what_it_left_in_its_status(self) -> None:
        api = agent(CRASHED, ENDED | {"message": "first\nlevel=fatal msg=enough\n"})
        assert of(api) == "container cilium-agent: CrashLoopBackOff, exit code 1, its last words: enough"
        assert ("GET", LOG) not in api.calls

    def test_where_it_left_nothing_the_log_of_the_run_before(self) -> None:
        api = agent(CRASHED, ENDED)
        api.logs["cilium-n1-a", "cilium-agent", True] = "starting\npanic: no such device\n\ngoroutine 1 [running]:\n"
        said = "container cilium-agent: CrashLoopBackOff, exit code 1, its last words: panic: no such device"
        assert of(api) == said

    def test_of_one_that_has_just_ended_this_run_s(self) -> None:
        api = agent({"terminated": ENDED})
        api.logs["cilium-n1-a", "cilium-agent", False] = "Error: out of luck"
        assert of(api) == "container cilium-agent: Error, exit code 1, its last words: Error: out of luck"

    def test_one_that_runs_and_is_not_ready(self) -> None:
        api = agent({"running": {"startedAt": "2026-11-23T10:00:00Z"}})
        api.logs["cilium-n1-a", "cilium-agent", False] = 'level=info msg="Waiting for the API server"'
        said = "container cilium-agent: runs, but isn't ready; its log ends: Waiting for the API server"
        assert of(api) == said

    def test_where_the_log_may_not_be_read(self) -> None:
        api = agent(CRASHED, ENDED)
        api.errors["GET", LOG] = ApiError("403 no", status=403, reason="Forbidden")
        assert of(api) == "container cilium-agent: CrashLoopBackOff, exit code 1"

    def test_the_init_container_that_holds_the_others_up(self) -> None:
        pod = agent_pod("n1", ready=False, state={"waiting": {"reason": "PodInitializing"}})
        done = {"name": "mount", "ready": True, "state": {"terminated": {"exitCode": 0}}}
        fails = {"name": "config", "ready": False, "state": CRASHED, "lastState": {"terminated": ENDED}}
        pod["status"]["initContainerStatuses"] = [done, fails]
        assert of(FakeApi().put(pod)).startswith("container config: CrashLoopBackOff")

    def test_one_that_no_node_takes(self) -> None:
        pod = agent_pod("n1", ready=False)
        pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: too full"}]}
        assert of(FakeApi().put(pod)) == "no node takes it: 0/3 nodes: too full"

    def test_one_that_is_gone(self) -> None:
        assert of(FakeApi()) == "it was deleted meanwhile"


class TestWords:
    def test_the_last_error_not_the_last_line(self) -> None:
        assert (
            last_words.said('level=error msg="a"\nlevel=error msg="b" error="c \\"d\\""\nlevel=info msg=bye')
            == 'b: c "d"'
        )

    def test_without_an_error_the_last_line(self) -> None:
        assert last_words.said("one\n\ntwo \n\n") == "two"

    def test_no_more_than_so_many(self) -> None:
        assert len(last_words.said("x" * 5000)) <= last_words.LONGEST + 2

    @pytest.mark.parametrize(
        "line",
        [
            "Authorization: Bearer s3cret-s3cret",
            "--token=s3cret-s3cret",
            'password: "s3cret-s3cret"',
            "etcd-password=s3cret-s3cret, and more",
            "API_KEY = s3cret-s3cret",
            "dial https://me:s3cret-s3cret@example/",
            "-----BEGIN RSA PRIVATE KEY-----s3cret-s3cret",
            'level=fatal msg="sign in" error="clientSecret: s3cret-s3cret"',
        ],
    )
    def test_what_looks_like_a_credential_is_not_shown(self, line: str) -> None:
        assert "s3cret" not in last_words.said(line)

    def test_a_token_by_its_shape(self) -> None:
        assert last_words.said("got eyJhbGciOi.eyJzdWIi.c2ln back") == "got [hidden] back"
