from __future__ import annotations

import json
from dataclasses import replace

import pytest

from daskflow.errors import SettingsError, UnknownUser
from daskflow.settings import Settings, datastore_root, load, user_of


@pytest.fixture
def project(tmp_path):
    """A project's directory, with a home of configurations beside it."""
    (tmp_path / "project" / ".daskflow").mkdir(parents=True)
    (tmp_path / "home" / ".daskflowconfig").mkdir(parents=True)
    return tmp_path / "project"


@pytest.fixture
def env(project):
    return {"HOME": str(project.parent / "home"), "USER": "ada"}


def configure_project(project, text):
    (project / ".daskflow" / "config.json").write_text(text if isinstance(text, str) else json.dumps(text))


def configure_home(project, values, file="config.json"):
    (project.parent / "home" / ".daskflowconfig" / file).write_text(json.dumps(values))


# What applies


def test_without_any_source_everything_has_its_default(project, env):
    assert load(env, project) == Settings(
        user="ada",
        home=project.parent / "home" / ".daskflowconfig",
        profile=None,
        default_datastore=None,
        tempdir=".",
        default_cluster="local",
        default_decospecs=(),
        max_workers=None,
        quiet=False,
        launcher="auto",
    )


def test_the_environment_comes_before_the_project_and_the_project_before_the_home(project, env):
    found = []

    configure_home(project, {"DASKFLOW_DEFAULT_CLUSTER": "of home"})
    found.append(load(env, project).default_cluster)
    configure_project(project, {"DASKFLOW_DEFAULT_CLUSTER": "of project"})
    found.append(load(env, project).default_cluster)
    env["DASKFLOW_DEFAULT_CLUSTER"] = "of environment"
    found.append(load(env, project).default_cluster)

    assert found == ["of home", "of project", "of environment"]


def test_an_empty_variable_is_an_unset_one(project, env):
    configure_project(project, {"DASKFLOW_DEFAULT_CLUSTER": "of project"})

    assert load(env | {"DASKFLOW_DEFAULT_CLUSTER": ""}, project).default_cluster == "of project"


def test_the_project_is_the_nearest_directory_upwards_that_has_a_configuration(project, env):
    configure_project(project, {"DASKFLOW_MAX_WORKERS": 2})
    below = project / "a" / "b"
    (below / ".daskflow").mkdir(parents=True)

    assert load(env, below).max_workers == 2


def test_a_profile_has_a_file_of_its_own(project, env):
    configure_home(project, {"DASKFLOW_MAX_WORKERS": 1, "DASKFLOW_QUIET": True})
    configure_home(project, {"DASKFLOW_MAX_WORKERS": 2}, "config_prod.json")

    settings = load(env | {"DASKFLOW_PROFILE": "prod"}, project)

    assert (settings.profile, settings.max_workers, settings.quiet) == ("prod", 2, False)


def test_a_project_may_choose_the_profile(project, env):
    configure_project(project, {"DASKFLOW_PROFILE": "prod"})
    configure_home(project, {"DASKFLOW_MAX_WORKERS": 2}, "config_prod.json")

    assert load(env, project).max_workers == 2


def test_the_home_may_be_elsewhere(project, env):
    (project.parent / "etc").mkdir()
    (project.parent / "etc" / "config.json").write_text('{"DASKFLOW_MAX_WORKERS": 7}')

    settings = load(env | {"DASKFLOW_HOME": str(project.parent / "etc")}, project)

    assert (settings.home, settings.max_workers) == (project.parent / "etc", 7)


def test_the_environment_and_directory_of_the_process_are_the_defaults(project, monkeypatch):
    configure_project(project, {"DASKFLOW_MAX_WORKERS": 2})
    monkeypatch.chdir(project)
    monkeypatch.setenv("DASKFLOW_HOME", str(project))
    monkeypatch.setenv("DASKFLOW_USER", "grace")
    for variable in ("DASKFLOW_PROFILE", "DASKFLOW_MAX_WORKERS"):
        monkeypatch.delenv(variable, raising=False)

    settings = load()

    assert (settings.max_workers, settings.user) == (2, "grace")


# Casts


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("DASKFLOW_MAX_WORKERS", "4", "max_workers", 4),
        ("DASKFLOW_MAX_WORKERS", 4, "max_workers", 4),
        ("DASKFLOW_QUIET", "1", "quiet", True),
        ("DASKFLOW_QUIET", "False", "quiet", False),
        ("DASKFLOW_QUIET", "y", "quiet", True),
        ("DASKFLOW_QUIET", True, "quiet", True),
        ("DASKFLOW_LAUNCHER", "fresh", "launcher", "fresh"),
        (
            "DASKFLOW_DEFAULT_DECOSPECS",
            "retry:times=2 timeout",
            "default_decospecs",
            ("retry:times=2", "timeout"),
        ),
        ("DASKFLOW_DEFAULT_DECOSPECS", '["catch", "retry"]', "default_decospecs", ("catch", "retry")),
        ("DASKFLOW_DEFAULT_DECOSPECS", ["catch"], "default_decospecs", ("catch",)),
        ("DASKFLOW_TEMPDIR", "/scratch", "tempdir", "/scratch"),
        ("DASKFLOW_PACKAGE_SUFFIXES", ".bin .sh", "package_suffixes", (".bin", ".sh")),
        ("DASKFLOW_PACKAGE_SUFFIXES", ".bin,.sh", "package_suffixes", (".bin", ".sh")),
        ("DASKFLOW_PACKAGE_SUFFIXES", ["*"], "package_suffixes", ("*",)),
        ("DASKFLOW_MAX_PACKAGE_SIZE", "500", "max_package_size", 500),
    ],
)
def test_a_value_is_cast_to_the_type_of_its_setting(project, env, name, value, field, expected):
    if isinstance(value, str):
        env[name] = value
    else:
        configure_project(project, {name: value})

    assert getattr(load(env, project), field) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DASKFLOW_MAX_WORKERS", "many", "'many'; expected a whole number from 1"),
        ("DASKFLOW_MAX_WORKERS", "0", "'0'; expected a whole number"),
        ("DASKFLOW_MAX_WORKERS", 2.5, r"2\.5; expected a whole number"),
        ("DASKFLOW_MAX_WORKERS", True, "True; expected a whole number"),
        ("DASKFLOW_MAX_WORKERS", [], r"\[\]; expected a whole number"),
        ("DASKFLOW_QUIET", "maybe", "'maybe'; expected true or false"),
        ("DASKFLOW_LAUNCHER", "rocket", "'rocket'; expected one of auto, fork, fresh"),
        ("DASKFLOW_DEFAULT_DECOSPECS", "[retry", r"'\[retry'; expected words"),
        ("DASKFLOW_DEFAULT_DECOSPECS", [1], r"\[1\]; expected words"),
        ("DASKFLOW_DATASTORE", 3, "3; expected a directory"),
        ("DASKFLOW_PACKAGE_SUFFIXES", "sql", r"'sql'; expected suffixes such as \.parquet, or \*"),
        ("DASKFLOW_MAX_PACKAGE_SIZE", "1 GB", "'1 GB'; expected a whole number"),
    ],
)
def test_a_malformed_value_is_an_error_that_names_its_source_and_itself(project, env, name, value, expected):
    if isinstance(value, str):
        env[name] = value
        source = "environment"
    else:
        configure_project(project, {name: value})
        source = str(project / ".daskflow" / "config.json")

    with pytest.raises(SettingsError, match=f"{source}: {name} is {expected}"):
        load(env, project)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "is not JSON: .*line 1"), ("[1]", r"holds \[1\]; expected a JSON object")]
)
def test_a_malformed_file_is_an_error_that_names_it(project, env, text, reason):
    configure_project(project, text)

    with pytest.raises(SettingsError, match=f"{project}/.daskflow/config.json {reason}"):
        load(env, project)


def test_a_file_that_is_not_utf8_is_an_error_that_names_it(project, env):
    (project / ".daskflow" / "config.json").write_bytes(b"\xff")

    with pytest.raises(SettingsError, match=r"config\.json is not JSON"):
        load(env, project)


def test_a_profile_without_a_file_is_an_error(project, env):
    with pytest.raises(SettingsError, match=r"profile is 'prod' .* no file .*config_prod\.json"):
        load(env | {"DASKFLOW_PROFILE": "prod"}, project)


def test_a_name_in_a_file_that_is_no_setting_is_noted(project, env):
    configure_project(project, {"DASKFLOW_MAX_WORKER": 2})

    (note,) = load(env | {"DASKFLOW_RUN_ALPHA": "1"}, project).notes

    assert "config.json: 'DASKFLOW_MAX_WORKER' is no setting and is ignored" in note
    assert "DASKFLOW_MAX_WORKERS" in note


# The user


@pytest.mark.parametrize(
    ("env", "account", "user"),
    [
        ({"SUDO_USER": "a", "USERNAME": "b", "USER": "c"}, "d", "a"),
        ({"USERNAME": "b", "USER": "c"}, "d", "b"),
        ({"USER": "c"}, "d", "c"),
        ({}, "d", "d"),
        ({"USER": ""}, "d", "d"),
        ({"SUDO_USER": "a", "USER": "root"}, "root", "a"),
        ({"SUDO_USER": "root", "USER": "c"}, "root", "c"),
        ({"USER": "root"}, "root", "root"),
        ({}, "root", "root"),
        ({}, None, None),
    ],
)
def test_the_user_is_the_first_name_that_is_not_root_and_root_only_if_there_is_no_other(env, account, user):
    assert user_of(env, lambda: account) == user


def test_daskflow_user_comes_before_all_others(project, env):
    env |= {"DASKFLOW_USER": "grace", "SUDO_USER": "someone"}

    assert load(env, project).username() == "grace"


def test_without_any_name_the_user_is_unknown(project, env):
    settings = replace(load(env, project), user=None)

    with pytest.raises(UnknownUser, match="Set DASKFLOW_USER"):
        settings.username()


def test_the_namespace_is_the_users_or_that_of_the_deployment_whose_token_is_given(project, env):
    assert load(env, project).namespace() == "user:ada"
    assert load(env | {"DASKFLOW_PRODUCTION_TOKEN": "f-7"}, project).namespace() == "production:f-7"
    with pytest.raises(UnknownUser, match="Set DASKFLOW_USER"):
        replace(load(env, project), user=None).namespace()


# The store


def test_the_store_is_the_nearest_folder_upwards(project, env):
    below = project / "a" / "b"
    below.mkdir(parents=True)

    assert datastore_root(load(env, below), below) == str(project / ".daskflow")


def test_a_file_of_that_name_is_no_store(project, env):
    below = project / "below"
    below.mkdir()
    (below / ".daskflow").write_text("")

    assert datastore_root(load(env, below), below) == str(project / ".daskflow")


def test_without_a_folder_upwards_the_store_is_in_the_working_directory_and_not_created_yet(tmp_path, env):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert datastore_root(load(env, elsewhere), elsewhere) == str(elsewhere / ".daskflow")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["DASKFLOW_DATASTORE", "DASKFLOW_DEFAULT_DATASTORE", "DASKFLOW_DATASTORE_SYSROOT_LOCAL"]
)
@pytest.mark.parametrize(
    ("place", "root"),
    [
        ("/data", "/data"),
        ("data/../store", "{project}/store"),
        ("~/store", "{home}/store"),
        ("file:///data/store/", "/data/store"),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("memory://", "memory://"),
    ],
)
def test_the_store_may_be_said_in_the_environment(project, env, name, place, root):
    settings = load(env | {name: place}, project)

    assert datastore_root(settings, project) == root.format(project=project, home=env["HOME"])


def test_the_option_comes_before_the_setting(project, env):
    settings = load(env | {"DASKFLOW_DATASTORE": "s3://bucket"}, project)

    assert datastore_root(settings, project, option="here") == str(project / "here")


def test_a_relative_store_in_a_configuration_starts_at_the_project_wherever_one_is_in_it(project, env):
    configure_project(project, {"DASKFLOW_DATASTORE": "store"})
    below = project / "a"
    below.mkdir()

    assert datastore_root(load(env, below), below) == str(project / "store")


@pytest.mark.parametrize("kind", ["s3", "local"])
def test_a_kind_of_store_is_no_store_wherever_it_is_said(project, env, kind):
    expected = rf"is '{kind}'; expected a directory \(\./s3 for one called s3\)"

    with pytest.raises(SettingsError, match=f"command line: --datastore {expected}"):
        datastore_root(load(env, project), project, option=kind)
    with pytest.raises(SettingsError, match=f"environment: DASKFLOW_DEFAULT_DATASTORE {expected}"):
        load(env | {"DASKFLOW_DEFAULT_DATASTORE": kind}, project)
    configure_project(project, {"DASKFLOW_DATASTORE": kind})
    with pytest.raises(SettingsError, match=rf"config\.json: DASKFLOW_DATASTORE {expected}"):
        load(env, project)


@pytest.mark.parametrize("name", ["s3", "local"])
def test_a_directory_may_have_the_name_of_a_kind(project, env, name):
    env["DASKFLOW_DATASTORE"] = f"./{name}"

    assert datastore_root(load(env, project), project) == str(project / name)
    assert datastore_root(load(env, project), project, option=f"./{name}") == str(project / name)


# daskflow.toml


def test_daskflow_toml_says_it_in_lower_case_and_comes_before_the_json_beside_it(project, env):
    configure_project(project, {"DASKFLOW_DATASTORE": "of json", "DASKFLOW_MAX_WORKERS": 3})
    (project / "daskflow.toml").write_text('datastore = "s3://bucket/prefix"\nworkers = 4\n')
    (project / "below").mkdir()

    found = load(env, project / "below")

    assert (found.default_datastore, found.max_workers) == ("s3://bucket/prefix", 3)
    assert [note.partition(" is no setting")[0] for note in found.notes] == [
        f"{project}/daskflow.toml: 'DASKFLOW_WORKERS'"
    ]


def test_a_relative_folder_in_daskflow_toml_starts_beside_it(project, env):
    (project / "daskflow.toml").write_text('datastore = "results"\n')
    (project / "below").mkdir()

    assert load(env, project / "below").default_datastore == str(project / "results")


def test_a_daskflow_toml_that_is_none_is_an_error_that_names_it(project, env):
    (project / "daskflow.toml").write_text("datastore =\n")

    with pytest.raises(SettingsError, match=rf"{project}/daskflow\.toml is not TOML: .*line 1"):
        load(env, project)
