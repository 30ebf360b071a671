"""What the Makefile's targets do; `python -m local TARGET` is the same.

  up          a cluster of its own on loopback, Cilium beside kube-proxy, then instead of it
  preview     what the next up would change
  outputs     the stack's outputs, JSON alone on standard output
  kubeconfig  the path of the cluster's kubeconfig, alone
  pulumi      any Pulumi command in this environment: make pulumi ARGS="stack --show-urns"
  down        end the cluster and remove its state
  up-real     a cluster of real nodes in namespaces of their own: real kubelets and kube-proxy; root is needed
  bench-real  the switch-over on real nodes with traffic, this program and the manual way side by side
  down-real   end the cluster of real nodes and leave the machine as it was
  clean       down and down-real, and remove the virtual environment; the cache that clones share stays
  test        check, the unit tests, the engine tests, the tests on real nodes where the machine can have them
  test-unit   the unit tests
  check       lint, format, types, imports, GitHub workflows
  docs        docs/settings.md and Pulumi.yaml's settings, from the code
  bench       how fast it is, as ratios
  chaos       runs that are killed or disturbed at drawn instants, and done again
  help        this text

RUNS=50 SEED=7 make chaos: so many runs, drawn from this seed; FROM=23: from this one on; STRATEGY=node-by-node: all so.
NODES=5 make up: more nodes than 3; NODES=3 make up-real: more than 2. PYTHON=python3.12 make up: another interpreter.
"""

import os
import sys
from typing import NoReturn

from local import clone, environment, removal

_ENDS = ("down", "down-real", "clean")
_MAKE_ENVIRONMENT = (
    *("up", "preview", "pulumi", "up-real"),
    *("test", "test-unit", "check", "docs", "bench", "chaos", "bench-real"),
)
_USE_ENVIRONMENT = ("outputs", "kubeconfig", *_ENDS)


def main(arguments: list[str]) -> int:
    """Do what the command line says, inside the clone's environment."""
    command = arguments[0] if arguments else "help"
    if command in ("help", "-h", "--help"):
        sys.stdout.write(__doc__)
        return 0
    if command not in (*_MAKE_ENVIRONMENT, *_USE_ENVIRONMENT):
        return _failed(f"no command is called {command}; `python -m local help` says which there are", 2)
    try:
        if command in _ENDS and not _is_to_be_ended(command):
            # No environment is made just for this.
            return removal.run(command)
        if command in _MAKE_ENVIRONMENT or (command in _ENDS and not environment.is_usable()):
            environment.ensure(lambda line: print(line, file=sys.stderr, flush=True))
        elif not environment.is_usable():
            return _failed("nothing is up here: run `make up` first")
    except environment.NoEnvironmentError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return _failed("Interrupted. The next run goes on from here.", 130)
    if not environment.is_this():
        _go_inside(arguments)

    from local import commands  # what it imports is in the environment alone

    return commands.run(command, arguments[1:])


def _is_to_be_ended(command: str) -> bool:
    """Whether a process was started that may run still, of what the command ends."""
    simulated, real = any(clone.RECORDS.glob("*")), clone.REAL.exists()
    return {"down": simulated, "down-real": real, "clean": simulated or real}[command]


def _go_inside(arguments: list[str]) -> NoReturn:
    os.chdir(clone.ROOT)
    python = str(environment.python())
    sys.stdout.flush()
    os.execv(python, [python, "-m", "local", *arguments])  # noqa: S606 - no shell


def _failed(message: str, code: int = 1) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
