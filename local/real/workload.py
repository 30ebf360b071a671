"""What traffic goes through, on a cluster: created, made anew, asked by hand."""

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from local.real import streams
from local.real.carried import ORDINARY, SERVICES, Backends, all_objects
from local.real.cluster import RealCluster
from local.real.streams import Stream, Way
from local.toolchain import ensure
from local.toolchain.cache import Report

Into = Callable[[Sequence[str]], list[str]]
"""Where a command runs: `cluster.outside`, `node.joined`."""

_SECONDS: Final = 120.0


class UnansweredError(RuntimeError):
    """A question got no answer, or not the right one."""


def program(report: Report = print) -> Path:
    """The program `traffic`, built if it isn't there."""
    return ensure(["traffic"], report).traffic


def deploy(cluster: RealCluster, report: Report = print, *, pods: bool = True) -> None:
    """Create every Service and server, and wait until each answers.

    Args:
        pods: Ordinary pods have a network; without one they are created, but not waited for.
    """
    api, binary = cluster.api, program(report)
    numbers = [node.number for node in cluster.nodes]
    for thing in all_objects(numbers, binary.parent):
        api.create(thing)
    _lead_outside(cluster)
    _rolled_out(cluster, "server-host", *(["server-pod", "server-hostport"] if pods else []))
    await_answers(cluster, "host")
    if pods:
        await_answers(cluster, "pod")


def renew_pods(cluster: RealCluster) -> None:
    """Make ordinary pods anew, on the network that is the cluster's by now, and wait until each Service answers."""
    done = cluster.kubectl("delete", "pods", "-l", ORDINARY, "--wait=true", "--timeout=60s")
    if done.returncode:
        raise RuntimeError(f"ordinary pods couldn't be deleted: {done.stderr.strip()}")
    _rolled_out(cluster, "server-pod", "server-hostport")
    await_answers(cluster, "pod")


def await_answers(cluster: RealCluster, backends: Backends) -> None:
    """Wait until every Service answers from outside and from every node: its endpoints take a moment to get there."""
    numbers = [node.number for node in cluster.nodes]
    asked: list[tuple[Into, list[Stream]]] = [(cluster.outside, streams.outside(numbers, backends))]
    inside = [stream for sender in streams.senders(backends) if sender.host_network for stream in sender.streams]
    asked += [(node.joined, inside) for node in cluster.nodes]
    deadline = time.monotonic() + _SECONDS
    while failed := [line for into, of in asked for line in _once(into, of) if " ! " in line]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Services don't answer within {_SECONDS:.0f} s: {'; '.join(failed)}")


def ask(into: Into, kind: Way, address: str) -> str:
    """Ask once from anywhere: the answer, `NODE:PORT` of the server; raises `UnansweredError` with the error.

    Args:
        into: `cluster.outside` or a node's `joined`.
    """
    [line] = _once(into, [Stream("question", kind, address, 1)])
    answer = line.split(" ", 4)[4]
    if answer.startswith("! "):
        raise UnansweredError(answer[2:])
    return answer


def _once(into: Into, asked: Iterable[Stream]) -> list[str]:
    """Each new connection and query once; the outcomes' lines."""
    once = [replace(stream, rate=1) for stream in asked if stream.kind != "long"]
    text = streams.spec(once, time.time() + _SECONDS, seconds=1)
    done = subprocess.run(
        into([str(program()), "probe", "-", "/dev/stdin"]), input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"traffic: {done.stderr.strip()}")
    return done.stdout.splitlines()


def _lead_outside(cluster: RealCluster) -> None:
    """Give the clients outside their addresses, and the ways to those that Services have of their own."""
    lines = []
    for its in SERVICES:
        clients = [its.client(kept=True), *(its.client(place) for place in range(len(its.ports)))]
        lines += [f"addr replace {client}/32 dev eth0" for client in clients]
        if its.is_routed:
            lines += [f"route replace {its.address(node.number)} via {node.address}" for node in cluster.nodes]
    cluster.outside_ip(*lines)


def _rolled_out(cluster: RealCluster, *names: str) -> None:
    for name in names:
        done = cluster.kubectl("rollout", "status", f"daemonset/{name}", f"--timeout={_SECONDS:.0f}s")
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stdout}{done.stderr}")
