"""``python flow.py ...``: commands, exit statuses, what goes where."""

from __future__ import annotations

import json
import os
import pty
import re
import threading

import pytest

HELLO = """
    from daskflow import FlowSpec, Parameter, step

    class Hello(FlowSpec):
        \"\"\"Says hello.

            And more.
        \"\"\"
        who = Parameter("who", default="world", help="Whom to greet.")

        @step
        def start(self):
            \"\"\"Begin.\"\"\"
            print("hello *starred*", self.who)
            self.next(self.left, self.right)

        @step
        def left(self):
            self.next(self.join)

        @step
        def right(self):
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            import sys
            print("to stderr", file=sys.stderr)

    if __name__ == "__main__":
        Hello()
"""


@pytest.fixture(scope="module")
def place(workspace):
    place = workspace()
    place.write(HELLO)
    return place


@pytest.fixture(scope="module")
def hello(workspace):
    place = workspace()
    place.write(HELLO)
    result = place.call("flow.py", "run", "--run-id-file", "id.txt", flow="Hello")
    assert result.returncode == 0, result.text
    return result


def test_check_is_the_command_that_is_meant_by_none(place):
    for command in ((), ("check",)):
        result = place.call("flow.py", *command)

        assert result.returncode == 0
        assert "looks good" in result.stderr
        assert result.stdout == ""


def test_show_tells_of_each_step_and_what_follows(place):
    result = place.call("flow.py", "show")

    assert result.returncode == 0
    assert "Says hello.\n\nAnd more." in result.stderr
    steps = result.stdout.split("Step ")[1:]
    assert [step.split()[0] for step in steps] == ["start", "left", "right", "join", "end"]
    assert steps[0].split("\n")[1:3] == ["    Begin.", "    => left, right"]
    assert "    ?\n" in steps[1]
    assert "=>" not in steps[4]


def test_help_lists_commands_and_version_says_which(place):
    for command in (("help",), ("--help",)):
        result = place.call("flow.py", *command)
        assert result.returncode == 0
        for name in ("check", "show", "run", "dump", "logs", "output-dot", "--datastore", "--quiet"):
            assert name in result.stdout
        assert "Usage: python flow.py" in result.stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", place.call("flow.py", "version").stderr)


def test_help_of_run_shows_options_with_their_defaults(place):
    text = " ".join(place.call("flow.py", "run", "--help").stdout.split())

    assert "--who TEXT Whom to greet. [default: world]" in text
    assert "--max-log-size" in text
    assert "[default: 10.0" in text


def test_the_graph_in_other_languages(place):
    assert place.call("flow.py", "output-dot").stdout.startswith("digraph")
    raw = place.call("flow.py", "output-raw", "--json").stdout
    assert json.loads(raw)["steps"]["start"]["next"] == ["left", "right"]
    assert "start" in place.call("flow.py", "output-raw").stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-command",), "No such command 'no-such-command'"),
        (("run", "--no-such-option"), "No such option"),
        (("--no-such-option", "run"), "No such option"),
        (("run", "extra"), "unexpected extra argument"),
        (("run", "--max-workers", "0"), "--max-workers"),
        (("run", "--max-workers", "many"), "--max-workers"),
        (("run", "--run-id-file", "no/such/folder/file"), "no/such/folder/file"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(place, command, words):
    result = place.call("flow.py", *command)

    assert result.returncode == 2, result.text
    assert words in result.stderr
    assert "Traceback" not in result.text


def test_lines_of_a_run_have_time_task_and_pid_and_the_banner_goes_to_stderr(hello):
    assert hello.stderr.startswith("daskflow ")
    assert "executing Hello for user:ada" in hello.stderr
    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \[1/start/0 \(pid \d+\)\] hello \*starred\* world$",
        hello.stdout,
        re.MULTILINE,
    )
    assert re.search(r"\[1/end/0 \(pid \d+\)\] to stderr$", hello.stdout, re.MULTILINE)
    assert "Done!" in hello.stdout
    assert "\x1b" not in hello.text


def test_the_run_id_file_holds_the_number_of_the_run(hello):
    assert (hello.folder / "id.txt").read_text() == "1"


def test_quiet_leaves_out_the_banner_only(place):
    result = place.call("flow.py", "--quiet", "run", flow="Hello")

    assert result.stderr == ""
    assert "hello *starred* world" in result.lines


def test_the_run_id_file_is_there_before_any_step_runs(run_flow):
    source = HELLO.replace('print("hello *starred*", self.who)', 'print("id", open("id.txt").read())')

    assert "id 1" in run_flow(source, "--run-id-file", "id.txt").lines


INVALID = """
    from daskflow import FlowSpec, step

    class Invalid(FlowSpec):
        @step
        def start(self):
            {last}

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Invalid()
"""


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("pass", "self.next"),
        ("self.next(self.nowhere)", "nowhere"),
        ("self.next(self.end, foreach=self.xs)", "foreach"),
    ],
)
def test_an_invalid_flow_is_one_error_with_its_line(run_flow, last, words, command):
    result = run_flow(INVALID.format(last=last), command=(command,), expect=1)

    assert "Validity checker found an issue" in result.stderr
    assert re.search(r"flow\.py on line \d+:", result.stderr)
    assert words in result.stderr
    assert "Traceback" not in result.text
    assert not result.store.exists()


@pytest.mark.parametrize("store", ["file/store", "link/store", "/proc/daskflow", "/sys/daskflow"])
def test_a_store_that_can_not_be_written_is_one_error(place, store):
    (place.folder / "file").write_text("in the way")
    (place.folder / "link").unlink(missing_ok=True)
    (place.folder / "link").symlink_to("nowhere")

    result = place.call("flow.py", "--datastore", store, "run")

    assert result.returncode == 1
    assert store in result.stderr
    assert len(result.stderr.strip().splitlines()) == 2
    assert "Traceback" not in result.text


def test_a_class_attribute_that_can_not_be_stored_is_one_error(run_flow):
    source = HELLO.replace(
        "who = Parameter(", 'LOCK = __import__("threading").Lock()\n        who = Parameter('
    )

    result = run_flow(source, expect=1)

    assert "'LOCK' of flow Hello" in result.stderr
    assert "Traceback" not in result.text
    assert result.status() == "failed"


def test_two_runs_started_at_once_have_numbers_of_their_own(workspace):
    place = workspace()
    place.write(HELLO)

    processes = [place.start("flow.py", "run") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    assert place.store.names("Hello") == ["1", "2"]
    assert sorted(re.search(r"Done! Hello/(\d)", out).group(1) for out, _ in outputs) == ["1", "2"]


CHATTY = """
    from daskflow import FlowSpec, step

    class Chatty(FlowSpec):
        @step
        def start(self):
            for n in range(30_000):
                print("line", n, "x" * 100)
            self.next(self.end)

        @step
        def end(self):
            self.finished = True

    if __name__ == "__main__":
        Chatty()
"""


def test_a_reader_that_goes_away_stops_nothing(workspace):
    place = workspace()
    place.write(CHATTY)
    reading, writing = os.pipe()

    with place.start("flow.py", "run", stdout=writing) as process:
        os.close(writing)
        assert os.read(reading, 10)
        os.close(reading)
        _, err = process.communicate(timeout=60)

    result = place.result(process, "Chatty", err=err)
    assert result.status() == "successful"
    assert result.value("end", "finished") is True
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_a_reader_that_stops_reading_stops_nothing(workspace):
    place = workspace()
    place.write(CHATTY)
    reading, writing = os.pipe()

    with place.start("flow.py", "run", stdout=writing) as process:
        os.close(writing)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            os.close(reading)

    result = place.result(process, "Chatty", err=err)
    assert result.status() == "successful"
    assert process.returncode == 0


class Terminal:
    """A terminal, and all that was written to it if somebody reads."""

    def __init__(self, *, read: bool):
        self.ours, self.theirs = pty.openpty()
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        if read:
            self._reader.start()

    def _read(self):
        data = b""
        while True:
            try:
                part = os.read(self.ours, 1 << 16)
            except OSError:  # nobody has the other side open any more
                break
            data += part
        self.text = data.decode()

    def close(self):
        os.close(self.theirs)
        if self._reader.ident is not None:
            self._reader.join()
        os.close(self.ours)


@pytest.fixture
def terminal():
    opened = []

    def make(*, read=True):
        opened.append(Terminal(read=read))
        return opened[-1]

    yield make
    for one in opened:
        if one.theirs >= 0:
            os.close(one.theirs)
            os.close(one.ours)


def on_terminal(place, terminal, *command, env=None):
    """Run a command whose output is the terminal."""
    with place.start("flow.py", *command, stdout=terminal.theirs, stderr=terminal.theirs, env=env) as process:
        process.wait(timeout=60)
    terminal.close()
    terminal.theirs = -1
    return process


def test_on_a_terminal_each_step_has_a_line(workspace, terminal):
    place, shown = workspace(), terminal()
    place.write(HELLO)

    process = on_terminal(place, shown, "run", env={"TERM": "xterm"})

    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.text)
    assert "[1/start/0 (pid " in plain
    assert "hello *starred* world" in plain
    for name in ("start", "left", "right", "join", "end"):
        assert re.search(rf"✓ +{name} +1 done", plain), plain[-1000:]
    assert "\x1b[" in shown.text


def test_a_terminal_that_stops_reading_stops_nothing(workspace, terminal):
    place, shown = workspace(), terminal(read=False)
    place.write(CHATTY)

    process = on_terminal(place, shown, "run", env={"TERM": "xterm"})

    assert process.returncode == 0
    assert place.result(process, "Chatty").status() == "successful"


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_errors_are_coloured_on_a_terminal_unless_it_is_not_wanted(workspace, terminal, env, coloured):
    place, shown = workspace(), terminal()
    place.write(INVALID.format(last="pass"))

    process = on_terminal(place, shown, "check", env={"TERM": "xterm"} | env)

    assert process.returncode == 1
    assert "Validity checker found an issue" in shown.text
    assert ("\x1b[" in shown.text) is coloured
