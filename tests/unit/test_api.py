"""The client against a server on loopback; only time is a stand-in, so that nobody waits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kube_proxy_replacement.cluster import api as api_module
from kube_proxy_replacement.cluster.api import Api
from kube_proxy_replacement.cluster.errors import ApiError, KubeconfigError, ProcedureError, UnreachableError

from .fakes import Clock
from .loopback import Answer, Hang, Request, Server, authority, certificate, kubeconfig

SECRET = "secret-token"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(api_module, "time", clock)
    return clock


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.reset()
    return one_server


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def api(server: Server, clock: Clock) -> Api:
    return Api.connect(kubeconfig(server.url), patience=10)


def status(code: int, reason: str = "", message: str = "no") -> Answer:
    return Answer(code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message})


class TestRequests:
    def test_an_object_comes_as_it_is(self, server: Server, api: Api) -> None:
        body = {"kind": "Any", "metadata": {"name": "é«»"}, "unknown": {"later": [1, None, True]}}
        server.answer = lambda _: Answer(200, body)
        assert api.get("/api/v1/x", fieldSelector="a=b") == body
        assert (server.requests[0].method, server.requests[0].path) == ("GET", "/api/v1/x")
        assert server.requests[0].query == [("fieldSelector", "a=b")]

    def test_the_token_goes_with_each(self, server: Server, api: Api) -> None:
        api.get("/x")
        api.create("/x", {"a": 1})
        assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {SECRET}"] * 2

    @pytest.mark.parametrize(
        ("call", "method", "kind"),
        [
            (lambda api: api.create("/x", {"a": 1}), "POST", "application/json"),
            (lambda api: api.replace("/x", {"a": 1}), "PUT", "application/json"),
            (lambda api: api.merge("/x", {"a": 1}), "PATCH", "application/merge-patch+json"),
        ],
    )
    def test_what_is_sent_is_sent_as_what_it_is(
        self, server: Server, api: Api, call: Any, method: str, kind: str
    ) -> None:
        call(api)
        request = server.requests[0]
        assert (request.method, request.headers["content-type"], request.body) == (method, kind, {"a": 1})

    def test_a_key_that_a_merge_takes_away_is_sent_as_null(self, server: Server, api: Api) -> None:
        api.merge("/x", {"data": {"gone": None}})
        assert server.requests[0].body == {"data": {"gone": None}}

    def test_many_go_over_one_connection(self, server: Server, api: Api) -> None:
        for _ in range(10):
            api.get("/x")
        assert server.connections == 1

    def test_it_is_safe_to_use_from_several_threads(self, server: Server, api: Api) -> None:
        server.answer = lambda request: Answer(200, {"path": request.path})
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda number: api.get(f"/{number}"), range(200)))
        assert answers == [{"path": f"/{number}"} for number in range(200)]

    def test_an_answer_without_a_body_is_an_empty_object(self, server: Server, api: Api) -> None:
        server.answer = lambda _: Answer(200, b"")
        assert api.get("/x") == {}

    def test_it_says_where_it_leads(self, server: Server, api: Api) -> None:
        assert api.server == server.url


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [(400, "BadRequest"), (403, "Forbidden"), (404, "NotFound"), (409, "AlreadyExists"), (422, "Invalid")],
    )
    def test_an_error_has_its_status_reason_and_words(self, server: Server, api: Api, code: int, reason: str) -> None:
        server.answer = lambda _: status(code, reason, "pods is forbidden: no right")
        with pytest.raises(ApiError, match=rf"POST /x: {code} pods is forbidden: no right") as caught:
            api.create("/x", {})
        assert (caught.value.status, caught.value.reason) == (code, reason)
        assert len(server.requests) == 1

    def test_an_error_in_plain_text_is_told_in_part(self, server: Server, api: Api) -> None:
        server.answer = lambda _: Answer(403, b"<html>denied by the proxy</html>" + b"x" * 5000)
        with pytest.raises(ApiError, match="denied by the proxy") as caught:
            api.get("/x")
        assert len(str(caught.value)) < 500
        assert caught.value.reason == ""

    def test_credentials_that_are_not_accepted_are_told_in_words_and_not_quoted(self, server: Server, api: Api) -> None:
        server.answer = lambda _: status(401, "Unauthorized", "Unauthorized")
        with pytest.raises(ApiError, match=r"401 .*credentials aren't accepted") as caught:
            api.get("/x")
        assert SECRET not in str(caught.value)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("body", [b"<html>log in</html>", b"[1]", b'"text"', b"\xff\xfe"])
    @pytest.mark.parametrize("code", [200, 302])
    def test_what_is_no_api_server_is_told(self, server: Server, api: Api, body: bytes, code: int) -> None:
        server.answer = lambda _: Answer(code, body)
        with pytest.raises(UnreachableError, match=rf"{server.url} answers, but not as a Kubernetes API server"):
            api.get("/x")


class TestFind:
    def test_what_is_not_there_is_none(self, server: Server, api: Api) -> None:
        server.answer = lambda _: status(404, "NotFound")
        assert api.find("/x") is None

    def test_what_is_there_is_given(self, server: Server, api: Api) -> None:
        server.answer = lambda _: Answer(200, {"a": 1})
        assert api.find("/x") == {"a": 1}

    @pytest.mark.parametrize("code", [401, 403, 422])
    def test_a_refusal_is_not_taken_for_none(self, server: Server, api: Api, code: int) -> None:
        server.answer = lambda _: status(code, "Forbidden")
        with pytest.raises(ApiError):
            api.find("/x")

    def test_no_answer_is_not_taken_for_none(self, server: Server, api: Api) -> None:
        def hang(_: Request) -> Answer:
            raise Hang

        server.answer = hang
        with pytest.raises(UnreachableError):
            api.find("/x")


class TestList:
    def pages(self, server: Server, *pages: list[int]) -> None:
        def answer(request: Request) -> Answer:
            at = int(dict(request.query).get("continue", "0"))
            token = str(at + 1) if at + 1 < len(pages) else ""
            return Answer(200, {"metadata": {"continue": token}, "items": [{"n": n} for n in pages[at]]})

        server.answer = answer

    def test_every_page_is_read_in_order(self, server: Server, api: Api) -> None:
        self.pages(server, [1, 2], [3], [], [4, 5])
        assert [item["n"] for item in api.list("/x")] == [1, 2, 3, 4, 5]
        assert len(server.requests) == 4

    def test_each_page_is_asked_with_the_selector_and_a_limit(self, server: Server, api: Api) -> None:
        self.pages(server, [1], [2])
        api.list("/x", labelSelector="k8s-app=cilium,a!=b")
        for request in server.requests:
            query = dict(request.query)
            assert query["labelSelector"] == "k8s-app=cilium,a!=b"
            assert 0 < int(query["limit"]) <= 1000
        assert "continue" not in dict(server.requests[0].query)

    @pytest.mark.parametrize("body", [{"items": None}, {"items": [], "metadata": {}}, {"metadata": {"continue": None}}])
    def test_an_empty_collection_is_empty(self, server: Server, api: Api, body: dict[str, Any]) -> None:
        server.answer = lambda _: Answer(200, body)
        assert api.list("/x") == []

    def test_a_page_that_is_refused_is_an_error_not_a_shorter_list(self, server: Server, api: Api) -> None:
        self.pages(server, [1], [2])
        first = server.answer
        server.answer = lambda request: status(410, "Expired") if "continue" in dict(request.query) else first(request)
        with pytest.raises(ApiError, match="410"):
            api.list("/x")

    def test_an_unknown_kind_is_an_error(self, server: Server, api: Api) -> None:
        server.answer = lambda _: status(404, "NotFound")
        with pytest.raises(ApiError, match="404"):
            api.list("/apis/cilium.io/v2/ciliumnodeconfigs")


class TestDelete:
    def test_its_dependents_go_by_garbage_collection(self, server: Server, api: Api) -> None:
        assert api.delete("/x") is True
        assert server.requests[0].method == "DELETE"
        assert server.requests[0].body == {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
        }

    def test_only_the_object_that_is_meant_and_at_once(self, server: Server, api: Api) -> None:
        api.delete("/x", uid="uid-1", grace_seconds=0)
        assert server.requests[0].body["preconditions"] == {"uid": "uid-1"}
        assert server.requests[0].body["gracePeriodSeconds"] == 0

    def test_what_is_gone_already_is_no_error(self, server: Server, api: Api) -> None:
        server.answer = lambda _: status(404, "NotFound")
        assert api.delete("/x") is False

    def test_another_object_of_that_name_stays_and_is_no_error(self, server: Server, api: Api) -> None:
        server.answer = lambda _: status(409, "Conflict")
        assert api.delete("/x", uid="uid-1") is False

    def test_any_other_conflict_is_one(self, server: Server, api: Api) -> None:
        server.answer = lambda _: status(409, "Conflict")
        with pytest.raises(ApiError, match="409"):
            api.delete("/x")

    def test_a_refusal_is_an_error(self, server: Server, api: Api) -> None:
        server.answer = lambda _: status(403, "Forbidden")
        with pytest.raises(ApiError, match="403"):
            api.delete("/x", uid="uid-1")


class TestMay:
    @pytest.mark.parametrize(
        ("answer", "may"),
        [
            ({"status": {"allowed": True}}, True),
            ({"status": {"allowed": False}}, False),
            ({"status": {}}, False),
            ({}, False),
        ],
    )
    def test_as_the_api_server_says(self, server: Server, api: Api, answer: dict[str, Any], may: bool) -> None:
        server.answer = lambda _: Answer(201, answer)
        assert api.may("delete", "daemonsets", group="apps", namespace="kube-system") is may

    def test_it_asks_for_exactly_this_right(self, server: Server, api: Api) -> None:
        api.may("create", "pods", namespace="kube-system", subresource="exec", name="")
        assert server.requests[0].path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        assert server.requests[0].body["spec"]["resourceAttributes"] == {
            "verb": "create",
            "resource": "pods",
            "namespace": "kube-system",
            "subresource": "exec",
        }


class LockedError(Exception):
    pass


class TestGuard:
    CHANGES = (
        lambda api: api.create("/x", {"a": 1}),
        lambda api: api.replace("/x", {"a": 1}),
        lambda api: api.merge("/x", {"a": 1}),
        lambda api: api.delete("/x"),
    )

    @pytest.fixture
    def locked(self, api: Api) -> Api:
        def say_no() -> None:
            raise LockedError

        api.guard = say_no
        return api

    @pytest.mark.parametrize("change", CHANGES)
    def test_what_would_change_something_is_not_even_sent(self, server: Server, locked: Api, change: Any) -> None:
        with pytest.raises(LockedError):
            change(locked)
        assert server.requests == []

    @pytest.mark.parametrize(
        "harmless",
        [
            lambda api: api.get("/x"),
            lambda api: api.list("/x"),
            lambda api: api.may("create", "pods"),
            lambda api: api.create("/x?dryRun=All", {"a": 1}),
            lambda api: api.replace("/x?dryRun=All", {"a": 1}),
            lambda api: api.beside().create("/x", {"a": 1}),
        ],
    )
    def test_what_changes_nothing_and_what_goes_beside_it_is_not_guarded(
        self, server: Server, locked: Api, harmless: Any
    ) -> None:
        harmless(locked)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("change", CHANGES)
    def test_it_is_asked_before_each_try(self, server: Server, api: Api, change: Any) -> None:
        """While a request is tried again, another run may have begun."""
        asked: list[int] = []

        def guard() -> None:
            asked.append(len(server.requests))
            if len(asked) == 3:
                raise LockedError

        api.guard = guard
        server.answer = lambda _: status(503)
        with pytest.raises(LockedError):
            change(api)
        assert asked == [0, 1, 2]


def test_a_connection_beside_it_has_its_own_patience_and_its_own_time_for_an_answer(
    server: Server, api: Api, clock: Clock
) -> None:
    def hangs(_: Request) -> Answer:
        raise Hang

    server.answer = hangs
    with pytest.raises(UnreachableError, match="tried for 0 s"):
        api.beside(patience=0, timeout=(1, 0.1)).get("/x")
    assert len(server.requests) == 1


class TestRepeating:
    def times(self, server: Server, count: int, bad: Any) -> None:
        """The first answers are bad (an Answer, or Hang), the next are good."""

        def answer(_: Request) -> Answer:
            if len(server.requests) > count:
                return Answer(200, {"good": True})
            if isinstance(bad, Answer):
                return bad
            raise bad

        server.answer = answer

    @pytest.mark.parametrize("method", ["get", "create", "replace", "merge"])
    @pytest.mark.parametrize("bad", [status(503), status(429), status(500), status(502), status(504), Hang()])
    def test_what_is_busy_or_breaks_is_tried_again(self, server: Server, api: Api, bad: Any, method: str) -> None:
        self.times(server, 3, bad)
        body = () if method == "get" else ({"a": 1},)
        assert getattr(api, method)("/x", *body) == {"good": True}
        assert len(server.requests) == 4
        assert all(request.body == (body[0] if body else None) for request in server.requests)

    def test_a_disruption_budget_s_no_is_an_answer_and_said_at_once(self, server: Server, api: Api) -> None:
        cause = {"reason": "DisruptionBudget", "message": "The disruption budget web needs 2 healthy pods and has 2"}
        body = {"kind": "Status", "reason": "TooManyRequests", "message": "no", "details": {"causes": [cause]}}
        self.times(server, 1, Answer(429, body))
        with pytest.raises(ApiError) as caught:
            api.create("/api/v1/namespaces/shop/pods/web/eviction", {"kind": "Eviction"})
        assert (caught.value.status, caught.value.reason) == (429, "TooManyRequests")
        assert caught.value.causes == {"DisruptionBudget": cause["message"]}
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "details", [None, "x", {}, {"causes": None}, {"causes": ["x"]}, {"causes": [{"reason": "Other"}]}]
    )
    def test_any_other_429_is_busy_whatever_its_details(self, server: Server, api: Api, details: Any) -> None:
        self.times(server, 1, Answer(429, {"kind": "Status", "details": details}))
        assert api.create("/x", {"a": 1}) == {"good": True}

    @pytest.mark.parametrize("beside", [False, True])
    def test_an_api_server_that_comes_back_and_knows_nobody_s_rights_yet_is_tried_again(
        self, server: Server, api: Api, beside: bool
    ) -> None:
        def answer(_: Request) -> Answer:
            if len(server.requests) == 1:
                raise Hang
            return Answer(200, {"good": True}) if len(server.requests) > 4 else status(403)

        server.answer = answer
        if beside:
            with pytest.raises(UnreachableError):
                api.beside(patience=0).get("/x")
        assert api.get("/x") == {"good": True}

    def test_long_after_that_forbidden_is_forbidden(self, server: Server, api: Api, clock: Clock) -> None:
        self.times(server, 1, Hang())
        api.get("/x")
        server.answer = lambda _: status(403)
        clock.sleep(11)
        asked = len(server.requests)
        with pytest.raises(ApiError):
            api.get("/x")
        assert len(server.requests) == asked + 1

    def test_each_page_of_a_list_is_tried_again_by_itself(self, server: Server, api: Api) -> None:
        def answer(request: Request) -> Answer:
            if len(server.requests) in (1, 3):
                return status(503)
            last = "continue" in dict(request.query)
            return Answer(200, {"metadata": {"continue": "" if last else "t"}, "items": [{"last": last}]})

        server.answer = answer
        assert api.list("/x") == [{"last": False}, {"last": True}]

    def test_a_busy_server_is_given_up_after_the_patience(self, server: Server, api: Api, clock: Clock) -> None:
        server.answer = lambda _: status(503, "ServiceUnavailable", "etcd is away")
        with pytest.raises(ApiError, match="503 etcd is away"):
            api.get("/x")
        assert 5 < clock.passed <= 10

    def test_a_silent_server_is_given_up_with_address_time_and_cause(
        self, server: Server, api: Api, clock: Clock
    ) -> None:
        self.times(server, 10**9, Hang())
        with pytest.raises(UnreachableError, match=rf"{server.url} doesn't answer \(GET /x, tried for 10 s\): .+"):
            api.get("/x")
        assert 5 < clock.passed <= 10

    def test_a_closed_port_is_told_likewise(self, clock: Clock) -> None:
        server = Server()
        server.close()
        with pytest.raises(UnreachableError, match=rf"{server.url} doesn't answer.*refused"):
            Api.connect(kubeconfig(server.url), patience=3).get("/x")

    def test_without_patience_it_is_tried_once(self, server: Server, clock: Clock) -> None:
        self.times(server, 10**9, status(503))
        with pytest.raises(ApiError, match="503"):
            Api.connect(kubeconfig(server.url), patience=0).get("/x")
        assert len(server.requests) == 1

    def test_the_pauses_grow(self, server: Server, api: Api) -> None:
        self.times(server, 10**9, status(503))
        with pytest.raises(ApiError):
            api.get("/x")
        assert len(server.requests) < 12


class TestTls:
    @pytest.fixture
    def secure(self, pem: Path, clock: Clock) -> Iterator[Server]:
        server = Server(pem)
        yield server
        server.close()

    def test_the_cluster_s_own_authority_is_trusted(self, secure: Server, pem: Path) -> None:
        cluster = {"certificate-authority-data": authority(pem)}
        assert Api.connect(kubeconfig(secure.url, cluster=cluster)).get("/x") == {}

    def test_another_one_is_not_and_the_token_is_never_sent(self, secure: Server, clock: Clock) -> None:
        with pytest.raises(UnreachableError, match=rf"(?s)no trusted connection.*{secure.url}.*certificate"):
            Api.connect(kubeconfig(secure.url)).get("/x")
        assert secure.requests == []
        assert clock.passed == 0

    def test_an_api_server_that_ends_in_the_middle_of_a_handshake_is_asked_again(
        self, secure: Server, pem: Path
    ) -> None:
        secure.cut = 2
        cluster = {"certificate-authority-data": authority(pem)}
        assert Api.connect(kubeconfig(secure.url, cluster=cluster)).get("/x") == {}
        assert secure.cut == 0

    def test_one_that_always_does_is_told_as_one_that_does_not_answer(self, secure: Server, clock: Clock) -> None:
        secure.cut = 10**9
        with pytest.raises(UnreachableError, match=rf"{secure.url} doesn't answer.*tried for 10 s\): .*EOF"):
            Api.connect(kubeconfig(secure.url)).get("/x")
        assert 5 < clock.passed <= 10

    def test_plain_http_where_tls_is_meant_is_told(self, server: Server, clock: Clock) -> None:
        url = server.url.replace("http:", "https:")
        with pytest.raises(UnreachableError, match="no trusted connection"):
            Api.connect(kubeconfig(url)).get("/x")

    @pytest.mark.parametrize(
        ("user", "cluster"),
        [
            (
                {"client-certificate-data": "U0VDUkVU", "client-key-data": "U0VDUkVU"},
                {"insecure-skip-tls-verify": True},
            ),
            ({}, {"certificate-authority-data": "U0VDUkVU"}),
        ],
    )
    def test_certificates_that_are_none_are_told(self, secure: Server, user: Any, cluster: Any) -> None:
        with pytest.raises(ProcedureError, match=r"certificate|kubeconfig") as caught:
            Api.connect(kubeconfig(secure.url, user=user, cluster=cluster)).get("/x")
        assert "U0VDUkVU" not in str(caught.value)


class TestToken:
    @pytest.mark.parametrize("token", [f"{SECRET}\n", f"{SECRET}\r\n", f"{SECRET} "])
    def test_a_line_break_at_its_end_is_none_of_it(self, server: Server, clock: Clock, token: str) -> None:
        Api.connect(kubeconfig(server.url, user={"token": token})).get("/x")
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"

    def test_also_where_it_is_read_from_a_file(self, server: Server, clock: Clock, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(f"{SECRET}\n")
        Api.connect(kubeconfig(server.url, user={"tokenFile": str(tmp_path / "token")})).get("/x")
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"

    @pytest.mark.parametrize("token", [f"{SECRET}\nmore", f"{SECRET}–"])
    def test_one_that_no_header_may_hold_is_refused_and_not_quoted(
        self, server: Server, clock: Clock, token: str
    ) -> None:
        with pytest.raises(KubeconfigError, match="token") as caught:
            Api.connect(kubeconfig(server.url, user={"token": token})).get("/x")
        assert SECRET not in str(caught.value)
        assert server.requests == []


@pytest.mark.parametrize("url", ["", "https://", "ftp://127.0.0.1", "https://[::1"])
def test_a_server_that_is_no_address_is_told_as_that(clock: Clock, url: str) -> None:
    with pytest.raises((KubeconfigError, UnreachableError)) as caught:
        Api.connect(kubeconfig(url)).get("/x")
    assert "token" not in str(caught.value)
    assert SECRET not in str(caught.value)


class TestContexts:
    def content(self, **more: Any) -> str:
        clusters = [{"name": name, "cluster": {"server": f"https://{name}.example"}} for name in ("c", "d")]
        contexts = [{"name": "x", "context": {"cluster": "c"}}, {"name": "y", "context": {"cluster": "d"}}]
        return kubeconfig("", clusters=clusters, contexts=contexts, **more)

    def test_the_current_one_unless_another_is_named(self) -> None:
        assert Api.connect(self.content()).server == "https://c.example"
        assert Api.connect(self.content(), "y").server == "https://d.example"

    def test_one_that_does_not_exist_is_named_with_those_that_do(self) -> None:
        with pytest.raises(KubeconfigError, match=r"kubeContext: .* kubeconfig has no context 'z'.*x, y"):
            Api.connect(self.content(), "z")

    def test_a_current_one_that_does_not_exist_is_told_as_the_file_s_own(self) -> None:
        with pytest.raises(KubeconfigError, match=r"current-context: .*no context 'z'.*x, y"):
            Api.connect(self.content(**{"current-context": "z"}))

    @pytest.mark.parametrize("current", [None, ""])
    def test_without_a_current_one_it_is_told_what_to_set(self, current: Any) -> None:
        with pytest.raises(KubeconfigError, match=r"no current context.*kubeContext.*x, y"):
            Api.connect(self.content(**{"current-context": current}))

    def test_without_a_current_one_a_named_one_is_enough(self) -> None:
        assert Api.connect(self.content(**{"current-context": ""}), "y").server == "https://d.example"


class TestAmbient:
    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("KUBECONFIG", raising=False)
        return tmp_path

    def put(self, path: Path, server: str, name: str, **more: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.loads(kubeconfig(server))
        content["clusters"][0]["name"] = content["contexts"][0]["context"]["cluster"] = f"c-{name}"
        content["users"][0]["name"] = content["contexts"][0]["context"]["user"] = f"u-{name}"
        content["contexts"][0]["name"] = content["current-context"] = name
        path.write_text(json.dumps(content | more))
        return path

    def test_the_home_s_own(self, home: Path) -> None:
        self.put(home / ".kube" / "config", "https://home.example", "h")
        assert Api.connect().server == "https://home.example"

    def test_the_environment_s_wins(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.put(home / ".kube" / "config", "https://home.example", "h")
        monkeypatch.setenv("KUBECONFIG", str(self.put(home / "k", "https://env.example", "e")))
        assert Api.connect().server == "https://env.example"

    def test_several_are_merged_as_kubectl_does(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one = self.put(home / "1", "https://one.example", "one")
        two = self.put(home / "2", "https://two.example", "two")
        gone = home / "gone"
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (gone, one, two))))
        assert Api.connect(context="one").server == "https://one.example"
        assert Api.connect(context="two").server == "https://two.example"

    def test_the_first_file_s_current_context_wins_as_for_kubectl(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = self.put(home / "1", "https://one.example", "one")
        two = self.put(home / "2", "https://two.example", "two")
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (one, two))))
        assert Api.connect().server == "https://one.example"

    def test_a_file_beside_it_is_found_from_everywhere(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, server: Server, clock: Clock
    ) -> None:
        (home / "conf").mkdir()
        (home / "conf" / "token").write_text(SECRET)
        users = [{"name": "u-e", "user": {"tokenFile": "token"}}]
        monkeypatch.setenv("KUBECONFIG", str(self.put(home / "conf" / "k", server.url, "e", users=users)))
        monkeypatch.chdir("/")
        Api.connect().get("/x")
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"

    def test_a_file_that_is_missing_is_named_with_what_to_set(self, home: Path) -> None:
        with pytest.raises(KubeconfigError, match=r"\.kube/config isn't there.*KUBECONFIG.*--secret kubeconfig"):
            Api.connect()

    def test_a_context_that_is_missing_is_named_with_those_that_are_there(self, home: Path) -> None:
        self.put(home / ".kube" / "config", "https://home.example", "h")
        with pytest.raises(KubeconfigError, match=r"kubeContext: the ambient kubeconfig has no context 'z'.* h\b"):
            Api.connect(context="z")

    @pytest.mark.parametrize(
        "content",
        [
            "",
            SECRET,
            f"- {SECRET}",
            f"password: !{SECRET} x",
            f"password: *{SECRET}",
            f"a: [{SECRET}",
            f"a: b: {SECRET}",
            f"%{SECRET}",
            f"a: {SECRET}\x07",
            json.dumps({"contexts": SECRET}),
            json.dumps({"contexts": [SECRET]}),
            json.dumps({"users": [SECRET], "contexts": []}),
            json.dumps({"clusters": {SECRET: 1}}),
        ],
    )
    def test_one_that_is_none_is_told_by_its_path_and_never_quoted(self, home: Path, content: str) -> None:
        (home / ".kube").mkdir()
        (home / ".kube" / "config").write_text(content)
        with pytest.raises(KubeconfigError) as caught:
            Api.connect()
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        "user",
        [
            {"name": "u-e", "token": SECRET},
            {"name": "u-e", "user": {"auth-provider": {"name": "oidc", "config": {"client-secret": SECRET}}}},
            {"name": "u-e", "user": SECRET},
            {"name": "u-e", "user": {"client-certificate-data": SECRET, "client-key-data": SECRET}},
        ],
    )
    def test_a_user_that_cannot_be_used_is_never_quoted(self, home: Path, user: dict[str, Any]) -> None:
        self.put(home / ".kube" / "config", "https://home.example", "e", users=[user])
        with pytest.raises(KubeconfigError) as caught:
            Api.connect()
        assert SECRET not in str(caught.value)

    def test_a_file_that_is_missing_in_it_is_named(self, home: Path) -> None:
        users = [{"name": "u-e", "user": {"client-certificate": "/nowhere/cert", "client-key": "/nowhere/key"}}]
        self.put(home / ".kube" / "config", "https://home.example", "e", users=users)
        with pytest.raises(KubeconfigError, match="/nowhere/cert"):
            Api.connect()


class TestPlugins:
    """A program that gives the credentials, as most clouds have it."""

    def user(self, tmp_path: Path, text: str) -> dict[str, Any]:
        program = tmp_path / "plugin"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}}

    def test_a_plugin_s_token_is_used(self, server: Server, clock: Clock, tmp_path: Path) -> None:
        version = "client.authentication.k8s.io/v1"
        credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": "from-plugin"}}
        user = self.user(tmp_path, f"echo '{json.dumps(credential)}'")
        Api.connect(kubeconfig(server.url, user=user)).get("/x")
        assert server.requests[0].headers["authorization"] == "Bearer from-plugin"

    @pytest.mark.parametrize("text", [f"echo {SECRET} >&2; exit 1", f"echo {SECRET}", "exit 3"])
    def test_one_that_fails_is_told_as_that_and_not_quoted(
        self, server: Server, clock: Clock, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(KubeconfigError, match=r"(?i)credentials.*sign in again") as caught:
            Api.connect(kubeconfig(server.url, user=self.user(tmp_path, text))).get("/x")
        assert SECRET not in str(caught.value) + caplog.text
        assert server.requests == []
