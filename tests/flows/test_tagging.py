"""`tag` on the command line, and tags and namespaces in whole flows."""

from __future__ import annotations

import pytest

SOURCE = """
    from daskflow import Flow, FlowSpec, current, get_namespace, step

    class Tagged(FlowSpec):
        @step
        def start(self):
            self.numbers = [0, 1, 2, 3]
            self.next(self.work, foreach="numbers")

        @step
        def work(self):
            for count in range(3):
                current.run.add_tag(f"{self.input}.{count}")
            current.run.remove_tag(f"{self.input}.0")
            self.mine = current.task.tags
            self.namespace = get_namespace()
            self.latest = Flow("Tagged").latest_run.id
            self.next(self.join)

        @step
        def join(self, inputs):
            self.tags = current.run.user_tags
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Tagged()
"""


@pytest.fixture(scope="module")
def place(workspace):
    """A folder with the flow."""
    made = workspace()
    made.write(SOURCE)
    return made


@pytest.fixture(scope="module")
def ran(place):
    """Ada ran it, and then bob; what came of ada's run."""
    ada, bob = (
        place.call("flow.py", "run", flow="Tagged", env={"DASKFLOW_USER": user}) for user in ("ada", "bob")
    )
    assert (ada.returncode, bob.returncode) == (0, 0), ada.text + bob.text
    return ada


def tag(place, *words: str, user: str = "ada", quiet: bool = True):
    return place.call("flow.py", *(["--quiet"] if quiet else []), "tag", *words, env={"DASKFLOW_USER": user})


@pytest.fixture
def tagged(place, ran):
    """Ada's run has the tags `a` and `b`, bob's has `b`, and nothing else."""
    for run, user, tags in (("1", "ada", ["a", "b"]), ("2", "bob", ["b"])):
        line = tag(place, "list", "--run-id", run, "--hide-system-tags").stderr
        old = [
            word
            for each in line.rpartition(" ; ")[2].strip().split(",")
            if each
            for word in ("--remove", each)
        ]
        new = [word for each in tags for word in ("--add", each)]
        assert tag(place, "replace", "--run-id", run, "--remove", "x", *old, *new, user=user).returncode == 0
    return place


def system(user: str, place) -> str:
    line = tag(place, "list", "--run-id", {"ada": "1", "bob": "2"}[user]).stderr
    return line.split(" ; ")[1]


def test_tasks_that_tag_their_run_at_once_lose_no_tag(ran):
    assert ran.value("join", "tags") == {f"{item}.{count}" for item in range(4) for count in (1, 2)}
    assert all("user:ada" in tags for tags in ran.values("work", "mine"))


def test_within_a_task_the_namespace_is_that_of_the_run(ran):
    assert set(ran.values("work", "namespace")) == {"user:ada"}
    assert set(ran.values("work", "latest")) == {"1"}


def test_tags_are_given_taken_and_replaced(tagged):
    outs = [
        tag(tagged, "add", "--run-id", "1", "c", "d d"),
        tag(tagged, "add", "--run-id", "1", "a", "user:ada"),
        tag(tagged, "remove", "--run-id", "1", "c", "never there"),
        tag(tagged, "replace", "--run-id", "1", "--remove", "a", "--remove", "b", "--add", "b", "--add", "e"),
    ]

    assert [out.returncode for out in outs] == [0, 0, 0, 0]
    assert [out.stderr.split(" ; ")[2].strip() for out in outs] == [
        "a,b,c,d d",
        "a,b,c,d d",
        "a,b,d d",
        "b,d d,e",
    ]
    assert outs[0].stderr.startswith("Tagged/1 ; ")
    assert "user:ada" in outs[0].stderr.split(" ; ")[1].split(",")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remove", "--run-id", "1", "a", "user:ada"], "'user:ada' can't be removed"),
        (["add", "--run-id", "1", "x" * 501], "at most 500 characters"),
        (["add", "--run-id", "1", *map(str, range(49))], "at most 50 user tags; it would have 51"),
        (["add", "--run-id", "9", "c"], "Run 'Tagged/9' does not exist"),
        (["add", "--run-id", "2", "c"], "Run 'Tagged/2' is not in namespace 'user:ada'"),
        (["add", "--run-id", "1", "--namespace", "user:bob", "c"], "is not in namespace 'user:bob'"),
        (["replace", "--run-id", "1", "--add", "c"], "what to remove and what to add"),
        (["replace", "--run-id", "1"], "what to remove and what to add"),
        (["list", "--run-id", "9"], "Run 'Tagged/9' does not exist"),
        (["list", "--all", "--my-runs"], "--all and --my-runs exclude each other"),
        (["list", "--flat", "--group-by-tag"], "--group-by-tag and --flat exclude each other"),
    ],
)
def test_what_can_not_be_done_ends_with_status_1_and_changes_nothing(tagged, words, message):
    done = tag(tagged, *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert tag(tagged, "list", "--run-id", "1", "--hide-system-tags").stderr == "Tagged/1 ;  ; a,b\n"


@pytest.mark.parametrize("words", [["add", "x"], ["add", "--run-id", "1"], ["list", "--nope"], ["nope"]])
def test_a_malformed_command_ends_with_status_2(place, words):
    assert tag(place, *words).returncode == 2


def test_the_run_of_another_is_tagged_in_their_namespace(tagged):
    done = tag(tagged, "add", "--run-id", "2", "--namespace", "user:bob", "from ada")

    assert done.returncode == 0, done.text
    assert done.stderr.endswith(" ; b,from ada\n")


def test_tags_are_listed_for_programs(tagged):
    ada, bob = system("ada", tagged), system("bob", tagged)
    both = ",".join(sorted({*ada.split(","), *bob.split(",")}))

    def listed(*words: str) -> list[str]:
        return tag(tagged, "list", *words).stderr.splitlines()

    assert listed() == listed("--all") == [f"Tagged/2,Tagged/1 ; {both} ; a,b"]
    assert listed("--my-runs") == listed("--run-id", "1") == [f"Tagged/1 ; {ada} ; a,b"]
    assert listed("--run-id", "2") == [f"Tagged/2 ; {bob} ; b"]
    assert listed("--group-by-run") == [f"Tagged/2 ; {bob} ; b", f"Tagged/1 ; {ada} ; a,b"]
    assert listed("--group-by-run", "--hide-system-tags") == ["Tagged/2 ;  ; b", "Tagged/1 ;  ; a,b"]
    assert listed("--group-by-tag", "--hide-system-tags") == [
        "user:a ; Tagged/1",
        "user:b ; Tagged/2,Tagged/1",
    ]
    assert "system:user:bob ; Tagged/2" in listed("--group-by-tag")
    assert listed("--flat", "--hide-system-tags") == ["a", "b"]
    assert set(listed("--flat")) == {"a", "b", *both.split(",")}


def test_tags_are_listed_for_people(tagged):
    one = tag(tagged, "list", "--run-id", "1", quiet=False)
    every = tag(tagged, "list", "--group-by-tag", "--hide-system-tags", quiet=False)
    flat = tag(tagged, "list", "--flat", "--hide-system-tags", quiet=False)

    assert one.stdout.splitlines()[:2] == ["Tagged/1", "    tags: a, b"]
    assert "user:ada" in one.stdout.splitlines()[2]
    assert one.stderr.count("\n") == 1, "the banner"
    assert every.stdout.splitlines() == ["a", "    Tagged/1", "b", "    Tagged/2, Tagged/1"]
    assert (flat.stdout, flat.stderr.splitlines()[1:]) == ("", ["a", "b"])


def test_who_has_no_runs_has_none_to_list(tagged):
    done = tag(tagged, "list", "--my-runs", user="carl")

    assert done.returncode == 1
    assert "Flow 'Tagged' is not in namespace 'user:carl'" in done.stderr


def test_logs_and_artifacts_of_another_are_shown(place, ran):
    assert place.call("flow.py", "logs", "2/start", env={"DASKFLOW_USER": "ada"}).returncode == 0
    assert "numbers" in place.call("flow.py", "dump", "2/start/0", env={"DASKFLOW_USER": "ada"}).stdout


STARTED = """
    from daskflow import FlowSpec, current, get_namespace, step

    class Started(FlowSpec):
        @step
        def start(self):
            self.tags, self.namespace = current.tags, get_namespace()
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Started()
"""


def test_a_run_is_started_with_tags_and_a_namespace_and_a_resumed_run_has_its_own(workspace):
    made = workspace()
    made.write(STARTED)

    first = made.call(
        "flow.py", "run", "--tag", "a", "--tag", "b", "--tag", "a", "--namespace", "user:zoe", flow="Started"
    )
    resumed = made.call("flow.py", "resume", "start", "--tag", "c")
    listed = made.call("flow.py", "--quiet", "tag", "list", "--group-by-run", "--hide-system-tags")

    assert first.returncode == resumed.returncode == 0, first.text + resumed.text
    assert (first.value("start", "tags"), first.value("start", "namespace")) == ({"a", "b"}, "user:zoe")
    assert listed.stderr.splitlines() == ["Started/2 ;  ; c", "Started/1 ;  ; a,b"]


@pytest.mark.parametrize(
    ("tags", "message"),
    [([""], "empty"), (["x" * 501], "500 characters"), (map(str, range(51)), "at most 50")],
)
def test_a_run_with_tags_that_can_not_be_is_not_started(workspace, tags, message):
    made = workspace()
    made.write(STARTED)

    done = made.call("flow.py", "run", *(word for tag in tags for word in ("--tag", tag)))

    assert done.returncode == 1
    assert "Tagging error" in done.stderr
    assert message in done.stderr
    assert not made.store.exists("Started")
