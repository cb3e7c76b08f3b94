"""The tags of a run: a set that many may change at once, kept where files are only ever created."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from children import at_once
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import StoreError, TaggingError
from daskflow.pathspec import TaskName
from daskflow.store.flows import new_run
from daskflow.store.runs import RunStore
from daskflow.store.storage import LocalStorage
from daskflow.store.tags import change_tags, check_tags, read_tags, system_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEM = ["user:ada", "runtime:dev"]


def tagged_run(storage: LocalStorage, *tags: str) -> RunStore:
    return new_run(storage, "F", lambda number: {"run": number, "tags": list(tags), "system_tags": SYSTEM})


def user_tags(run: RunStore) -> set[str]:
    return set(read_tags(run, run.record()).user)


# What the tags are


def test_a_run_has_the_tags_it_was_started_with_until_they_are_changed(storage: LocalStorage):
    run = tagged_run(storage, "first", "user:ada")

    before = read_tags(run, run.record())
    change_tags(run, remove=["first"], add=["second", "third"])
    after = read_tags(run, run.record())

    assert (before.user, before.system) == ({"first"}, set(SYSTEM))
    assert (after.user, after.system) == ({"second", "third"}, set(SYSTEM))
    assert after.all == {"second", "third", *SYSTEM}


def test_each_change_is_a_file_with_the_complete_set_and_the_highest_number_counts(
    storage: LocalStorage, tmp_path: Path
):
    run = tagged_run(storage, "a")
    for number in range(11):
        change_tags(run, add=[str(number)])
    change_tags(run, remove=["a", "0"])

    assert sorted(storage.names("F/1/tags")) == sorted(f"{number}.json" for number in range(12))
    kept = json.loads((tmp_path / "store/F/1/tags/11.json").read_text())
    assert kept == {"format": 1, "tags": sorted(map(str, range(1, 11)))}
    assert user_tags(run) == set(kept["tags"])


def test_a_change_that_changes_nothing_leaves_nothing(storage: LocalStorage):
    run = tagged_run(storage, "a")

    assert change_tags(run, add=["a", "user:ada"], remove=["nothing like it"]).user == {"a"}
    assert change_tags(run, add="a").user == {"a"}
    assert storage.names("F/1/tags") == []


def test_system_tags_say_who_started_the_run_and_with_what():
    assert system_tags("ada", {"python": "3.11.7", "daskflow": "0.1.0"}) == [
        "user:ada",
        "runtime:dev",
        "python_version:3.11.7",
        "daskflow_version:0.1.0",
    ]


def test_a_run_whose_record_has_no_system_tags_is_still_its_users(storage: LocalStorage):
    run = new_run(storage, "F", lambda number: {"user": "ada", "versions": {"python": "3.11.7"}})

    assert read_tags(run, run.record()).system == {"user:ada", "runtime:dev", "python_version:3.11.7"}


def test_a_step_may_bear_the_name_of_the_folder_of_tags(storage: LocalStorage, record_of: Callable):
    run = tagged_run(storage, "a")
    run.commit(record_of("tags/0"))
    change_tags(run, add=["b"])

    assert run.steps() == ["tags"]
    assert run.tasks("tags") == ["0"]
    assert run.task(TaskName("tags", "0")) is not None
    assert user_tags(run) == {"a", "b"}


def test_the_folder_of_tags_is_no_step(storage: LocalStorage):
    run = tagged_run(storage)
    change_tags(run, add=["b"])

    assert run.steps() == []


@pytest.mark.parametrize("content", ['{"format": 1, "ta', '{"format": 1}', '{"format": 1, "tags": [["a"]]}'])
def test_a_damaged_set_is_told_with_its_file(storage: LocalStorage, tmp_path: Path, content: str):
    run = tagged_run(storage)
    change_tags(run, add=["b"])
    (tmp_path / "store/F/1/tags/0.json").write_text(content)

    with pytest.raises(StoreError, match=r"F/1/tags/0\.json"):
        user_tags(run)


# Changes


_SETS = st.sets(st.sampled_from(["a", "b", "c", "d", "e", "user:ada"]))


@given(start=_SETS, changes=st.lists(st.tuples(_SETS, _SETS), max_size=4))
def test_a_change_removes_first_and_then_adds_or_does_nothing_at_all(
    tmp_path_factory: pytest.TempPathFactory, start: set[str], changes: list[tuple[set[str], set[str]]]
):
    run = tagged_run(LocalStorage(str(tmp_path_factory.mktemp("store"))), *start)
    expected = start - set(SYSTEM)

    for remove, add in changes:
        if remove & set(SYSTEM):
            with pytest.raises(TaggingError, match="'user:ada' can't be removed"):
                change_tags(run, remove=remove, add=add)
        else:
            expected = (expected - remove) | (add - set(SYSTEM))
            assert change_tags(run, remove=remove, add=add).user == expected
        assert user_tags(run) == expected


def test_who_loses_a_race_starts_again_from_what_the_winner_left(tmp_path: Path):
    class Contested(LocalStorage):
        """Another's change comes between the reading of the tags and the writing."""

        others = iter([["theirs"], ["theirs too"]])

        def create(self, path: str, data: bytes) -> bool:
            if "/tags/" in path and (tags := next(self.others, None)):
                change_tags(RunStore(self, "F", "1"), add=tags, remove=["a"])
            return super().create(path, data)

    run = tagged_run(Contested(str(tmp_path)), "a", "b")

    assert change_tags(run, add=["mine"], remove=["b"]).user == {"theirs", "theirs too", "mine"}
    assert user_tags(run) == {"theirs", "theirs too", "mine"}


def test_of_processes_that_change_tags_at_once_each_has_its_effect(storage: LocalStorage):
    run = tagged_run(storage, *(f"old {name}" for name in range(5)))

    def work(name: int) -> Callable[[], None]:
        def change() -> None:
            mine = RunStore(LocalStorage(storage.url), "F", "1")
            for number in range(8):
                change_tags(mine, add=[f"{name}.{number}"])
            change_tags(mine, remove=[f"old {name}", f"{name}.0"], add=[f"new {name}"])

        return change

    at_once([work(name) for name in range(5)])

    kept = {f"{name}.{number}" for name in range(5) for number in range(1, 8)}
    assert user_tags(run) == kept | {f"new {name}" for name in range(5)}
    assert len(storage.names("F/1/tags")) == 5 * 9


# Limits


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("", "empty"),
        ("x" * 501, "at most 500 characters; 'xxxxxxxxxxxxxxxxxxxx...' has 501"),
        ("\ud800", "UTF-8"),
        (3, "3 is of type int"),
        (b"a", "of type bytes"),
        (None, "None is of type NoneType"),
    ],
)
def test_what_can_be_no_tag_is_refused_and_nothing_is_changed(storage: LocalStorage, tag: object, words: str):
    run = tagged_run(storage, "a")

    for refused in (
        lambda: check_tags(["fine", tag]),
        lambda: change_tags(run, add=["fine", tag]),
        lambda: change_tags(run, remove=["a", tag]),
    ):
        with pytest.raises(TaggingError, match=words):
            refused()
    assert user_tags(run) == {"a"}


@pytest.mark.parametrize("tags", [3, None, [["a"]]])
def test_what_is_no_collection_of_tags_is_refused(storage: LocalStorage, tags: object):
    with pytest.raises(TaggingError, match="Tags are strings"):
        change_tags(tagged_run(storage), add=tags)


@pytest.mark.parametrize("tag", ["x", "ä" * 500, "\N{PILE OF POO}", "a b\n", "-"])
def test_any_text_of_up_to_500_characters_is_a_tag(storage: LocalStorage, tag: str):
    run = tagged_run(storage)
    change_tags(run, add=tag)

    assert check_tags(tag) == (tag,)
    assert user_tags(run) == {tag}


def test_a_run_has_at_most_50_tags_system_tags_not_counted(storage: LocalStorage):
    fifty = [str(number) for number in range(50)]
    run = tagged_run(storage, *check_tags([*fifty, "0"]))

    change_tags(run, add=SYSTEM)
    change_tags(run, remove=["0"], add=["one instead"])
    with pytest.raises(TaggingError, match="at most 50 user tags; it would have 51"):
        change_tags(run, add=["one more"])
    with pytest.raises(TaggingError, match="it would have 51"):
        check_tags([*fifty, "one more"])

    assert user_tags(run) == {*fifty[1:], "one instead"}
