"""Values that a run is given: from the command line, the environment, a default, a file."""

from __future__ import annotations

import pytest

from daskflow.pathspec import TaskName

PARAMETERS = """
    import copy
    import pathlib
    from daskflow import FlowSpec, IncludeFile, JSONType, Parameter, current, step

    CALLS = pathlib.Path("calls.txt")

    def computed(context):
        with CALLS.open("a") as file:
            file.write("called\\n")
        return f"{context.flow_name}-{context.user_name}-{context.parameter_name}"

    class Base(FlowSpec):
        inherited = Parameter("from-base", default="base")

    class Parameters(Base):
        text = Parameter("text", default="none", help="A text.")
        number = Parameter("number", default=1)
        fraction = Parameter("fraction", default=0.5)
        flag = Parameter("flag", default=False)
        dashed = Parameter("my-dashed", default="d")
        nothing = Parameter("nothing")
        json = Parameter("json", type=JSONType, default='{"a": [1, null]}')
        plain = Parameter("plain", default={"k": 1})
        many = Parameter("many", default="a,b", separator=",")
        computed = Parameter("computed", default=computed, type=str)
        hidden = Parameter("hidden", default="secret-default", show_default=False)
        file = IncludeFile("file", default="data.txt")
        raw = IncludeFile("raw", is_text=False, default="data.txt")
        parsed = IncludeFile("parsed", default="data.json", parser="json.loads")
        optional = IncludeFile("optional")
        CONSTANT = 12

        def seen(self):
            return copy.deepcopy({name: getattr(self, name) for name in current.parameter_names})

        def assigned(self):
            errors = []
            for name in ("text", "json", "file", "inherited"):
                try:
                    setattr(self, name, "changed")
                except AttributeError as error:
                    errors.append(str(error))
            self.plain["local"] = True  # in place: this task's own
            return errors

        @step
        def start(self):
            self.first = self.seen()
            self.names = current.parameter_names
            self.errors = self.assigned()
            self.next(self.a, self.b)

        @step
        def a(self):
            self.errors = self.assigned()
            self.next(self.join)

        @step
        def b(self):
            self.mine = self.seen()
            self.next(self.join)

        @step
        def join(self, inputs):
            self.mine = self.seen()
            self.theirs = [i.text for i in inputs]
            self.same = self.mine == inputs.b.mine and inputs.a.plain == self.plain
            self.errors = self.assigned()
            self.next(self.end)

        @step
        def end(self):
            self.last = self.seen()

    if __name__ == "__main__":
        Parameters()
"""


def written(place):
    place.write(PARAMETERS)
    (place.folder / "data.txt").write_bytes("Grüße\r\nsecond".encode())
    (place.folder / "data.json").write_text('{"x": 1}')
    return place


@pytest.fixture(scope="module")
def place(workspace):
    return written(workspace())


@pytest.fixture(scope="module")
def defaults(workspace):
    result = written(workspace()).call("flow.py", "run", flow="Parameters")
    assert result.returncode == 0, result.text
    return result


def test_without_options_a_run_has_the_defaults(defaults):
    assert defaults.value("start", "first") == {
        "inherited": "base",
        "text": "none",
        "number": 1,
        "fraction": 0.5,
        "flag": False,
        "dashed": "d",
        "nothing": None,
        "json": {"a": [1, None]},
        "plain": {"k": 1},
        "many": ["a", "b"],
        "computed": "Parameters-ada-computed",
        "hidden": "secret-default",
        "file": "Grüße\r\nsecond",
        "raw": "Grüße\r\nsecond".encode(),
        "parsed": {"x": 1},
        "optional": None,
    }
    assert defaults.value("start", "names") == sorted(defaults.value("start", "first"))


def test_a_default_is_computed_once_a_run_and_only_if_it_is_needed(workspace):
    place = written(workspace())

    for arguments in ((), ("--computed", "given")):
        assert place.call("flow.py", "run", *arguments).returncode == 0

    assert (place.folder / "calls.txt").read_text() == "called\n"


def test_parameters_are_the_same_in_every_task_also_after_a_join(defaults):
    first = defaults.value("start", "first")

    assert defaults.value("join", "same") is True
    assert defaults.value("join", "theirs") == ["none", "none"]
    assert defaults.value("end", "last") == first


def test_assigning_a_parameter_is_an_error_in_every_step(defaults):
    for task in ("start", "a", "join"):
        errors = defaults.value(task, "errors")
        assert len(errors) == 4, task
        assert all("Flow level attributes and Parameters are not modifiable" in error for error in errors)


def test_the_pseudo_task_of_the_parameters_has_them_and_the_constants_and_the_graph(defaults):
    record = defaults.run().task(TaskName("_parameters", "0"))

    assert set(record.artifacts) == {*defaults.value("start", "names"), "CONSTANT", "_graph_info"}
    assert defaults.run().load("raw", record.artifacts["raw"]) == "Grüße\r\nsecond".encode()
    assert defaults.run().load("parsed", record.artifacts["parsed"]) == '{"x": 1}'
    info = defaults.run().load("_graph_info", record.artifacts["_graph_info"])
    assert {p["name"] for p in info["parameters"]} == set(defaults.value("start", "names"))
    assert [c["name"] for c in info["constants"]] == ["CONSTANT"]


def test_options_and_the_environment_give_other_values(place):
    (place.folder / "other.txt").write_text("other")
    arguments = "--number -4 --fraction 1e3 --flag True --my-dashed x --json [1] --many p,q,r --computed given --file other.txt"
    env = {"DASKFLOW_RUN_TEXT": "from env", "DASKFLOW_RUN_NUMBER": "77", "DASKFLOW_RUN_FROM_BASE": "env too"}

    result = place.call(
        "flow.py", "run", *arguments.split(" "), "--nothing", "some words", flow="Parameters", env=env
    )

    assert result.returncode == 0, result.text
    number = max(map(int, place.store.names("Parameters")))
    run = result.run(number)
    start = run.task(TaskName("start", "0"))
    seen = run.load("first", start.artifacts["first"])
    assert {name: seen[name] for name in ("number", "fraction", "flag", "dashed", "json", "many")} == {
        "number": -4,
        "fraction": 1000.0,
        "flag": True,
        "dashed": "x",
        "json": [1],
        "many": ["p", "q", "r"],
    }
    assert (seen["text"], seen["inherited"], seen["nothing"]) == ("from env", "env too", "some words")
    assert (seen["computed"], seen["file"]) == ("given", "other")


def runs_in(place):
    return place.store.names("Parameters")


WRONG = {
    ("--number", "x"): "'x'",
    ("--fraction", "x"): "'x'",
    ("--flag", "maybe"): "maybe",
    ("--flag",): "--flag",
    ("--json", "{no json"): "is not a valid JSON object",
    ("--file", "no_such_file"): "no_such_file",
    ("--file", "."): "directory",
    ("--file", "s3://bucket/key"): "s3://bucket/key",
    ("--no-such-option", "1"): "No such option",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_wrong_value_is_a_usage_error_and_makes_no_run(place, arguments):
    before = runs_in(place)

    result = place.call("flow.py", "run", *arguments, flow="Parameters")

    assert result.returncode == 2, result.text
    assert WRONG[arguments] in result.stderr
    assert "Traceback" not in result.text
    assert result.stdout == ""
    assert runs_in(place) == before


def test_help_shows_each_parameter_with_its_default(place):
    text = place.call("flow.py", "run", "--help").stdout

    for words in ("--text", "A text.", "--my-dashed", "[default: 0.5]", "--max-workers", "--run-id-file"):
        assert words in text
    assert "secret-default" not in text
    assert not any(line.strip() == "--dashed" for line in text.splitlines())


REQUIRED = """
    from daskflow import FlowSpec, Parameter, step

    class Required(FlowSpec):
        req = Parameter("req", required=True)
        {more}

        @step
        def start(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Required()
"""


def test_a_required_parameter_has_to_be_given(run_flow):
    result = run_flow(REQUIRED.format(more=""), expect=2)

    assert "Error: Missing option '--req'." in result.stderr


def test_every_other_command_works_without_the_required_parameter(run_flow):
    assert run_flow(REQUIRED.format(more=""), command=("check",)).returncode == 0


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ('other = Parameter("REQ")', "specified twice"),
        ('other = Parameter("max-workers")', "reserved"),
        ('other = Parameter("n", default="x", type=int)', "expected int"),
        ('other = Parameter("n", default=lambda context: 1 / 0)', "division by zero"),
        ('other = Parameter("n", default=lambda context: "x", type=int)', "expected int"),
    ],
)
def test_a_parameter_declared_wrongly_is_one_error(run_flow, declaration, words):
    result = run_flow(REQUIRED.format(more=declaration), "--req", "1", expect=1)

    assert words in result.stderr
    assert "Traceback" not in result.text
