"""What the steps of the procedure are told. Apart from them: the program that declares needs no client of the API."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Order:
    """What every step needs to know; it travels as JSON, so that a recorded one can be read years later.

    Attributes:
        cluster: UID of the cluster that the stack belongs to; server: the API server's URL when that was found.
        mode: `coexist` or `replace`.
        namespace, release: the Helm release.
        host, port: the API server's address as the agents get it.
        image: the agent's image, for the pods that ask for the API server where no agent runs yet.
        timeout: seconds without progress.
        restart: UIDs of agents to restart by name.
        keep: whether a switch-over that fails is left as it is; else it is rolled back.
    """

    cluster: str
    mode: str
    namespace: str
    release: str
    host: str
    port: int
    image: str
    timeout: int
    restart: tuple[str, ...] = ()
    server: str = ""
    keep: bool = False

    def to_json(self) -> str:
        """What came later is left out where it isn't set: an order that says the same stays the same text."""
        told = asdict(self)
        if not self.keep:
            del told["keep"]
        return json.dumps(told, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Fields that this version doesn't know are left out: an older state may be newer than this program."""
        parsed = json.loads(text)
        known = {key: parsed[key] for key in cls.__dataclass_fields__ if key in parsed}
        return cls(**known | {"restart": tuple(parsed.get("restart") or ()), "port": int(parsed["port"])})
