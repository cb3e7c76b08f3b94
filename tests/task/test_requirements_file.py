"""What a requirements file says, wherever it stands; and what pip says of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from daskflow.errors import RequirementsError
from daskflow.task.environment import why
from daskflow.task.requirements import PINNED, Requirements, check, of_record, pins, read

if TYPE_CHECKING:
    from pathlib import Path

FIXED = ("dask==2025.9.1", "pyarrow==21.0.0")


def text_of(folder: Path, content: str) -> str:
    (folder / "r.txt").write_text(content)
    return read(str(folder / "r.txt")).text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", ""),
        ("# only a comment\n\n  \n", ""),
        ("\ufeffa==1\r\nb # why\r\n", "a==1\nb\n"),
        (
            "a==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n",
            "a==1      --hash=sha256:00      --hash=sha256:11\n",
        ),
        ("a @ git+https://host/a.git#egg=a", "a @ git+https://host/a.git#egg=a\n"),
        ("--index-url https://${TOKEN}@host/simple", "--index-url https://${TOKEN}@host/simple\n"),
        ("-r https://host/r.txt", "-r https://host/r.txt\n"),
        ("--find-links https://host/wheels", "--find-links https://host/wheels\n"),
        ("https://host/a-1.whl", "https://host/a-1.whl\n"),
        ("${WHEELS}/a-1.whl", "${WHEELS}/a-1.whl\n"),
        ("/only/on/workers/a-1.whl", "/only/on/workers/a-1.whl\n"),
    ],
)
def test_comments_go_and_lines_are_joined_as_pip_does(tmp_path: Path, content: str, text: str):
    assert text_of(tmp_path, content) == text


def test_local_paths_become_absolute(tmp_path: Path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a-1.whl").touch()
    here = tmp_path / "wheels"

    found = text_of(
        tmp_path, "--no-index --find-links=wheels\n-f wheels\nwheels/a-1.whl ; python_version > '3'\n"
    )

    wheel = f"file://{here}/a-1.whl#sha256={hashlib.sha256(b'').hexdigest()}"
    assert found == f"--no-index --find-links={here}\n-f {here}\n{wheel} ; python_version > '3'\n"


def test_a_wheel_that_is_built_again_is_another_requirement(tmp_path: Path):
    wheel = tmp_path / "a b-1.whl"
    wheel.write_bytes(b"1")
    lines = f"a @ {wheel.as_uri()} ; python_version > '3'\nb @ {wheel.as_uri()}#sha256=00\n"
    before = text_of(tmp_path, lines)
    wheel.write_bytes(b"2")
    digest = hashlib.sha256(b"2").hexdigest()

    after = text_of(tmp_path, lines)

    assert before != after
    assert after == (
        f"a @ {wheel.as_uri()}#sha256={digest} ; python_version > '3'\nb @ {wheel.as_uri()}#sha256=00\n"
    )


def test_a_file_with_extras_is_told_by_its_name(tmp_path: Path):
    names = ("a_b-1.0-py3-none-any.whl", "a-b-2.tar.gz")
    (tmp_path / "wheels[1]").mkdir()
    for name in names:
        (tmp_path / "wheels[1]" / name).touch()
    here, digest = f"file://{tmp_path}/wheels%5B1%5D", hashlib.sha256(b"").hexdigest()

    found = text_of(
        tmp_path, f"wheels[1]/{names[0]}[x,y] ; python_version > '3'\n./wheels[1]/{names[1]}[x]\n"
    )

    assert found == (
        f"a_b[x,y] @ {here}/{names[0]}#sha256={digest} ; python_version > '3'\n"
        f"a-b[x] @ {here}/{names[1]}#sha256={digest}\n"
    )


@pytest.mark.parametrize(
    "line", [".", "./lib", "./lib[extra]", "lib/", "lib @ file://{}/lib", "file://{}/lib"]
)
def test_a_folder_is_refused_since_it_changes_meanwhile(tmp_path: Path, line: str):
    (tmp_path / "lib").mkdir()

    with pytest.raises(RequirementsError, match="as it will be.*Build a wheel"):
        text_of(tmp_path, line.format(tmp_path) + "\n")


def test_files_that_it_includes_count_as_what_they_say(tmp_path: Path):
    (tmp_path / "below" / "wheels").mkdir(parents=True)
    (tmp_path / "below" / "more.txt").write_text("--find-links wheels\nb\n-r last.txt\n")
    (tmp_path / "below" / "last.txt").write_text("c\n")
    (tmp_path / "bounds.txt").write_text("d<2\n")
    file = tmp_path / "r.txt"
    file.write_text("a\n--requirement=below/more.txt\n-cbounds.txt\n")

    before = read(str(file))

    assert before.text == f"a\n--find-links {tmp_path / 'below' / 'wheels'}\nb\nc\n"
    assert before.constraints == "d<2\n"
    assert of_record({"requirements": before.describe()}) == before
    (tmp_path / "bounds.txt").write_text("d<3\n")
    assert read(str(file)).hash != before.hash


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("-e .", "asks for the folder of '-e .' as it will be"),
        ("--editable=./package", "Build a wheel of it"),
        ("-r missing.txt", "missing.txt can't be read: No such file or directory."),
        ("-r .", "can't be read: Is a directory."),
        ("-c r.txt", "r.txt includes itself."),
        (
            "gone-1.whl ; python_version > '3'",
            "asks for 'gone-1.whl ; python_version > '3'', but there is no /",
        ),
        ("./wheels/gone-1.tar.gz[extra]", "/wheels/gone-1.tar.gz."),
        ("wheels/gone", "/wheels/gone."),
    ],
)
def test_what_can_not_be_taken_along_is_refused(tmp_path: Path, line: str, told: str):
    with pytest.raises(RequirementsError) as caught:
        text_of(tmp_path, line)

    assert told in caught.value.message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "r.txt").write_bytes(b"\xff\xfe\x00a")

    with pytest.raises(RequirementsError, match="is no text in UTF-8"):
        read(str(tmp_path / "r.txt"))


@pytest.mark.parametrize(
    "line",
    [
        "dask==1.0",
        "Dask[array] ~= 1.0 ; python_version > '3'",
        "dask<2025.9 --hash=sha256:00",
        "pyarrow>21",
    ],
)
def test_another_version_of_what_is_pinned_is_refused_with_both_versions(line: str):
    with pytest.raises(RequirementsError) as caught:
        check(Requirements("r.txt", f"numpy\n{line}\n"), FIXED)

    name = "pyarrow 21.0.0" if line.startswith("pyarrow") else "2025.9.1"
    assert caught.value.message.startswith("r.txt asks for ")
    assert name in caught.value.message
    with pytest.raises(RequirementsError):
        check(Requirements("r.txt", "numpy\n", f"{line}\n"), FIXED)


@pytest.mark.parametrize(
    "line",
    [
        "dask",
        "dask>=2025.1",
        "dask==1.0 ; python_version < '3'",
        "dask-ml==1.0",
        "--index-url https://host/dask==1.0",
        "not a requirement",
    ],
)
def test_what_goes_with_the_pins_or_is_for_pip_to_judge_is_let_through(line: str):
    check(Requirements("r.txt", f"{line}\n"), FIXED)


def test_pins_are_what_is_installed_here():
    assert {pin.partition("==")[0] for pin in pins()} <= set(PINNED)
    assert any(pin.startswith("dask==") for pin in pins())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "it ended without a word"),
        ("Traceback\nImportError: No module named pip\n", "ImportError: No module named pip"),
        (
            "Looking\nERROR: Could not find it\nERROR: No matching distribution found for a\n[notice] new pip\n",
            "No matching distribution found for a",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken\nERROR: No matching distribution found for a\n",
            "the package index does not answer; No matching distribution found for a",
        ),
        (
            "Processing a.whl\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE FILE. Examine them.\n"
            "    a==1 from file:///w/a.whl#sha256=11 (from -r r.txt (line 2)):\n        Expected sha256 11\n",
            "a==1 from file:///w/a.whl has another content than the requirements say",
        ),
        (
            "ERROR: Cannot install\n\nThe conflict is caused by:\n    The user requested dask==1.0\n"
            "    The user requested (constraint) dask==2025.9.1\n    The user requested dask==2025.9.1\n"
            "    The user requested (constraint) a<2\n    b 1 depends on a>=2\n\nTo fix this you could\nERROR: Resolution\n",
            "the file asks for dask==1.0; tasks must have dask==2025.9.1, as the command that starts the run has it; "
            "a constraint is a<2; b 1 depends on a>=2",
        ),
    ],
)
def test_the_reason_is_found_in_what_pip_said(said: str, reason: str):
    assert why(said, FIXED) == reason
