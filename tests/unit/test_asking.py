"""An agent's one line, run by a real shell; stubs stand where the agent's programs are looked for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from kube_proxy_replacement.cluster import asking, rules
from kube_proxy_replacement.cluster.asking import Answers, Part
from kube_proxy_replacement.cluster.errors import ApiError
from kube_proxy_replacement.cluster.exec import ExecResult

from . import fakes
from .fakes import SAMPLES, sample

ALL = (asking.STATUS, asking.ENDPOINTS, *asking.RULES)
SAVE = asking.RULES[0]
STALE = "cilium-1.20.2-iptables-save-stale.txt"


class Container:
    """A container with programs that are scripts, and `sh`; with `grep` unless that is taken out.

    `says` gives a program what it prints, its complaint and its exit code; the others print nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ALL:
            self.says(part.command.split()[0])
        (folder / "grep").symlink_to(str(shutil.which("grep")))

    def says(self, program: str, text: str = "", complaint: str = "", code: int = 0) -> Container:
        out, err = self.folder / f"{program}.out", self.folder / f"{program}.err"
        out.write_text(text)
        err.write_text(complaint)
        script = f"#!/bin/sh\n/bin/cat {out}; /bin/cat {err} >&2; exit {code}\n"
        (self.folder / program).write_text(script)
        (self.folder / program).chmod(0o755)
        return self

    def without(self, program: str) -> Container:
        (self.folder / program).unlink()
        return self

    def run(self, parts: Sequence[Part] = ALL) -> ExecResult:
        program, *words = asking.command(parts)
        done = subprocess.run(
            [str(shutil.which(program)), *words],
            env={"PATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return ExecResult(done.stdout, done.stderr, done.returncode)

    def asked(self, parts: Sequence[Part] = ALL) -> Answers:
        return Answers("n1", self.run(parts))


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def why(answers: Answers, part: Part) -> str:
    with pytest.raises(ApiError) as caught:
        if part.counted:
            answers.count(part)
        else:
            answers.text(part)
    return str(caught.value)


class TestText:
    @pytest.mark.parametrize("end", ["", "\n"])
    def test_it_is_what_the_program_printed_whether_or_not_its_last_line_ends(
        self, container: Container, end: str
    ) -> None:
        container.says("cilium-dbg", '{\n  "a": "é"\n}' + end)
        answers = container.asked()
        assert answers.text(asking.STATUS).strip() == answers.text(asking.ENDPOINTS).strip() == '{\n  "a": "é"\n}'

    def test_a_complaint_of_a_program_that_succeeds_is_no_part_of_it(self, container: Container) -> None:
        container.says("cilium-dbg", "{}", complaint="level=warning")
        assert container.asked().text(asking.STATUS).strip() == "{}"

    def test_a_name_or_a_label_that_looks_like_a_mark_is_none(self, container: Container) -> None:
        text = "label: kube-proxy-replacement: cilium-dbg status -o json 1\n"
        container.says("cilium-dbg", text)
        answers = container.asked()
        assert answers.text(asking.STATUS).strip() == answers.text(asking.ENDPOINTS).strip() == text.strip()


class TestCount:
    @pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("*tables-save*")))
    def test_real_rules_are_counted_as_leftover_counts_them(self, container: Container, name: str) -> None:
        container.says(SAVE.command, sample(name))
        assert container.asked().count(SAVE) == rules.leftover(sample(name).splitlines())

    @pytest.mark.parametrize(
        ("line", "count"),
        [
            (":KUBE-SERVICES - [0:0]", 1),
            (":KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]", 1),
            (":KUBE-FIREWALL - [0:0]", 0),
            (":KUBE-SERVICES-OF-MINE - [0:0]", 0),
            (":MY-KUBE-SERVICES - [0:0]", 0),
            ("-A KUBE-SEP-UA5ZY2R4FQ3PJKUC -s 10.0.0.1/32 -j ACCEPT", 1),
            ("-A KUBE-KUBELET-CANARY -j ACCEPT", 0),
            ('-A INPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES', 1),
            ("-A INPUT -g KUBE-NODEPORTS", 1),
            ("-A INPUT -j KUBE-SERVICES --more", 1),
            ("-A INPUT -j KUBE-FIREWALL", 0),
            ("-A INPUT -j KUBE-SERVICES-OF-MINE", 0),
            ('-A INPUT -m comment --comment "see -j KUBE-SERVICES there" -j ACCEPT', 0),
            ('-A INPUT -m comment --comment "a \\" -j KUBE-SERVICES there" -j ACCEPT', 0),
            ('-A INPUT -m comment --comment "a \\\\" -j KUBE-SERVICES', 1),
            ("-A INPUT -m comment --comment KUBE-SERVICES -j ACCEPT", 0),
            ("# KUBE-SERVICES", 0),
        ],
    )
    def test_a_line_is_counted_where_it_is_as_it_is_here(self, container: Container, line: str, count: int) -> None:
        container.says(SAVE.command, line + "\n")
        assert container.asked().count(SAVE) == count == rules.leftover([line])

    def test_each_save_is_counted_by_itself(self, container: Container) -> None:
        for number, part in enumerate(asking.RULES):
            container.says(part.command, ":KUBE-SERVICES - [0:0]\n" * number)
        answers = container.asked()
        assert [answers.count(part) for part in asking.RULES] == [0, 1, 2, 3]

    def test_of_megabytes_only_the_count_is_sent(self, container: Container) -> None:
        container.says(SAVE.command, sample(STALE) * 300)
        result = container.run()
        assert Answers("n1", result).count(SAVE) == 93 * 300
        assert len(result.stdout) < 2000


class TestWhatFails:
    @pytest.mark.parametrize("part", ALL)
    def test_its_exit_code_and_its_own_complaint_are_told(self, container: Container, part: Part) -> None:
        for program in sorted({its.command.split()[0] for its in ALL}):
            container.says(program, complaint=f"{program}: a warning\n")
        program = part.command.split()[0]
        container.says(program, complaint=f"{program}: cannot open\n/proc/net\n", code=3)
        said = why(container.asked(), part)
        assert said == f"{part.command} on n1 ended with exit code 3: {program}: cannot open /proc/net"

    def test_the_others_are_answered(self, container: Container) -> None:
        container.says(SAVE.command, complaint="no", code=1).says("cilium-dbg", "{}")
        answers = container.asked()
        assert answers.text(asking.STATUS).strip() == "{}"
        assert answers.count(asking.RULES[1]) == 0

    def test_rules_are_not_none_where_the_program_fails_after_it_printed(self, container: Container) -> None:
        container.says(SAVE.command, ":KUBE-SERVICES - [0:0]\n", code=2)
        assert "exit code 2" in why(container.asked(), SAVE)

    @pytest.mark.parametrize("part", ALL)
    def test_a_program_that_is_not_in_the_container_is_named(self, container: Container, part: Part) -> None:
        program = part.command.split()[0]
        said = why(container.without(program).asked(), part)
        assert f"{part.command} on n1 ended with exit code 127, no such program in the agent's container: " in said
        assert f"{program}: not found" in said

    def test_a_container_without_grep_is_told_and_its_rules_are_not_none(self, container: Container) -> None:
        container.says(SAVE.command, sample(STALE))
        answers = container.without("grep").asked()
        assert re.search(r"exit code 127, no such program .*grep: not found", why(answers, SAVE))
        assert answers.text(asking.STATUS).strip() == ""

    def test_a_shell_that_is_killed_is_told_for_what_it_did_not_come_to(self) -> None:
        done = fakes.shell(asking.command([asking.STATUS])[2], lambda _: ExecResult("{}\n", "", 0))
        answers = Answers("n1", ExecResult(done.stdout, "Killed\n", 137))
        assert answers.text(asking.STATUS).strip() == "{}"
        for part in (asking.ENDPOINTS, SAVE):
            said = why(answers, part)
            assert "on n1 gave no answer: the shell ended before it, with exit code 137: Killed" in said


class TestTheLine:
    def test_only_what_is_asked_is_run(self, container: Container) -> None:
        result = container.without("iptables-nft-save").without("grep").run([asking.STATUS])
        assert result.stderr.strip() == "kube-proxy-replacement: cilium-dbg status -o json"

    def test_the_node_simulator_is_tested_with_it(self) -> None:
        """Its shell knows this line and no other."""
        tested = Path(__file__).parents[2] / "local/go/node-simulator/internal/command/testdata/line.sh"
        assert tested.read_text() == asking.command(ALL)[2] + "\n"

    @pytest.mark.parametrize("fails", [False, True])
    def test_the_stand_in_of_the_other_tests_answers_as_the_shell_does(self, container: Container, fails: bool) -> None:
        """`fakes.shell` must not drift from what a shell prints."""
        save = ":KUBE-SERVICES - [0:0]\n:INPUT - [0:0]\n"
        container.says("cilium-dbg", "{}\n", "warned\n").says(SAVE.command, save, code=2 * fails)
        outputs = {"cilium-dbg": ExecResult("{}\n", "warned\n", 0), SAVE.command: ExecResult(save, "", 2 * fails)}
        said = fakes.shell(asking.command(ALL)[2], lambda words: outputs.get(words[0], ExecResult("", "", 0)))
        assert said == container.run()
