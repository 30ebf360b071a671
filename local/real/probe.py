"""Run as a program: new TCP connections to some targets, so many a second, each outcome a line in a file.

    probe.py FILE RATE TIMEOUT SECONDS NAME=HOST:PORT NAME=http://HOST:PORT/PATH …

Without http:// whoever accepts the connection says a line; with it, anything but a status of 200 is a failure.

A line is `INSTANT NAME MILLISECONDS ANSWER` or, where it failed, `INSTANT NAME MILLISECONDS ! ERROR`; the instant is
that of the request. Only the standard library: it runs wherever there is a Python. It ends by itself after SECONDS.
"""

import asyncio
import sys
import time
from typing import TextIO


async def _ask(address: str) -> str:
    http = address.removeprefix("http://")
    where, slash, path = http.partition("/")
    host, _, port = where.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        if slash:
            writer.write(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
        line = (await reader.readline()).decode().strip()
        if not line:
            raise ConnectionError("closed without an answer")
        if slash and " 200" not in line:
            raise ConnectionError(line)
        return line
    finally:
        writer.close()


async def _once(file: TextIO, name: str, address: str, timeout: float) -> None:
    instant, start = time.time(), time.monotonic()
    try:
        said = await asyncio.wait_for(_ask(address), timeout)
    except TimeoutError:
        said = f"! no answer within {timeout:g} s"
    except OSError as error:
        said = f"! {error}"
    file.write(f"{instant:.3f} {name} {(time.monotonic() - start) * 1000:.0f} {said}\n")


async def _stream(file: TextIO, name: str, address: str, rate: float, timeout: float, seconds: float) -> None:
    running: set[asyncio.Task[None]] = set()
    start = time.monotonic()
    for number in range(int(rate * seconds)):
        # By the clock, not by the last one's end: a request that hangs holds up no other.
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        task = asyncio.create_task(_once(file, name, address, timeout))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def _main(path: str, rate: str, timeout: str, seconds: str, *targets: str) -> None:
    with open(path, "a", buffering=1) as file:  # noqa: PTH123 - a line is written at once
        streams = [target.partition("=") for target in targets]
        await asyncio.gather(
            *(_stream(file, name, address, float(rate), float(timeout), float(seconds)) for name, _, address in streams)
        )


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
