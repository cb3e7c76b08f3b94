"""`@secrets`: variables of a step that are kept elsewhere, and of which nothing stays behind."""

from __future__ import annotations

import json
import os
import sys

import pytest

from daskflow import secrets
from daskflow.errors import BadStepDecoratorException, SecretsError
from daskflow.flow.decorator import Attempt
from daskflow.flow.node import Node

VALUE = "hunter" + "2-sesame"
ROLE = "arn:aws:iam::123456789012:role/Reader"

INLINE = """
    import os
    import subprocess
    from daskflow import FlowSpec, catch, retry, secrets, step

    VALUE = "hunter" + "2-sesame"  # in two parts: the source of a flow is kept with its run

    def inline(name, value=VALUE):
        return {"type": "inline", "id": name, "options": {"env_vars": {name: value}}}

    class Inline(FlowSpec):
        @step
        def start(self):
            self.seen = "PASSWORD" in os.environ
            self.next(self.work)

        @catch(var="failed")
        @retry(times=1, minutes_between_retries=0)
        @secrets(sources=[inline("PASSWORD"), inline("PORT", 5432)])
        @step
        def work(self):
            self.seen = os.environ["PASSWORD"] == VALUE
            self.port = os.environ["PORT"]
            inherited = subprocess.run(["printenv", "PASSWORD"], capture_output=True, text=True)
            self.inherited = inherited.stdout.strip() == VALUE
            self.next(self.clash)

        @catch(var="failed", print_exception=True)
        @secrets(sources=[inline("HOME")])
        @step
        def clash(self):
            pass
            self.next(self.end)

        @step
        def end(self):
            self.why = self.failed.exception
            self.seen = "PASSWORD" in os.environ

    if __name__ == "__main__":
        Inline()
"""


@pytest.fixture(scope="module", params=["local", "inline"])
def inline(run_flow, request):
    return run_flow(INLINE, "--cluster", request.param)


def test_they_are_there_for_the_step_and_what_it_starts(inline):
    assert inline.value("work", "seen")
    assert inline.value("work", "inherited")
    assert inline.value("work", "port") == "5432"


def test_other_steps_do_not_see_them(inline):
    assert not inline.value("start", "seen")
    assert not inline.value("end", "seen")


def test_a_variable_that_is_set_already_fails_the_step_which_can_be_caught(inline):
    assert "'inline.HOME' gives HOME, which is set already" in inline.value("end", "why")


def test_no_value_is_written_anywhere_in_the_store_or_the_output(inline):
    files = [path for path in (inline.folder / "store").rglob("*") if path.is_file()]

    assert any(path.name == "flow.py" for path in files)
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]
    assert VALUE not in inline.text


def test_the_graph_tells_of_the_sources_without_the_values(inline):
    run = inline.run()
    info = run.load("_graph_info", run.parameters().artifacts["_graph_info"])

    (told,) = [each for each in info["steps"]["work"]["decorators"] if each["name"] == "secrets"]
    assert told["options"]["sources"][0] == {
        "type": "inline",
        "id": "PASSWORD",
        "options": {"env_vars": {"PASSWORD": "***"}},
    }


# Amazon's Secrets Manager: a server of its own, on loopback


@pytest.fixture(scope="module")
def account(s3_server):
    """The environment of somebody who may read these secrets."""
    environment = {
        "AWS_ENDPOINT_URL": s3_server,  # it has secrets too
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "ada",
        "AWS_SECRET_ACCESS_KEY": "lovelace",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        import boto3

        manager = boto3.client("secretsmanager")
        for name, text in {
            "database": json.dumps({"DB_USER": "ada", "db-password": VALUE, "1st": 1, "tls": True}),
            "team/token": "t0ken",
            "list": "[1]",
            "twins": json.dumps({"a-b": 1, "a_b": 2}),
            "reserved": json.dumps({"DASKFLOW_USER": "eve"}),
            "zero": json.dumps({"ZERO": "a\0b"}),
        }.items():
            manager.create_secret(Name=name, SecretString=text)
        manager.create_secret(Name="key", SecretBinary=b"\x00\xff")
        elsewhere = boto3.client("secretsmanager", region_name="us-west-2")
        arn = elsewhere.create_secret(Name="far", SecretString='{"FAR": "away"}')["ARN"]
    return environment | {"FAR_ARN": arn}


@pytest.fixture
def fetched(account, monkeypatch):
    """A function: options of `@secrets` to the variables that a step then has on top."""

    def fetch(*sources, **options):
        before = dict(os.environ) | account
        monkeypatch.setattr(os, "environ", dict(before))
        secrets(sources=list(sources), **options).task_pre_step(None, Attempt("start"))
        return {name: value for name, value in os.environ.items() if before.get(name) != value}

    for name, value in account.items():
        monkeypatch.setenv(name, value)
    return fetch


def aws(name, role=None, **options):
    return {"type": "aws-secrets-manager", "id": name, "options": options, "role": role}


def test_a_json_object_gives_a_variable_for_each_key(fetched):
    expected = {"DB_USER": "ada", "db_password": VALUE, "_1st": "1", "tls": "true"}

    assert fetched("aws-secrets-manager.database") == expected


def test_a_secret_may_be_one_variable_named_after_it_or_as_one_says(fetched):
    assert fetched(aws("team/token", json=False)) == {"team_token": "t0ken"}
    assert fetched(aws("team/token", env_var_name="TOKEN")) == {"TOKEN": "t0ken"}


def test_a_binary_secret_is_one_variable_in_base64(fetched):
    assert fetched("aws-secrets-manager.key") == {"key": "AP8="}
    assert fetched(aws("key", env_var_name="KEY")) == {"KEY": "AP8="}


def test_an_arn_leads_to_the_region_it_names(fetched, account):
    assert fetched(f"aws-secrets-manager.{account['FAR_ARN']}") == {"FAR": "away"}


@pytest.mark.parametrize("where", ["of the source", "of the decorator"])
def test_a_role_is_taken_on_to_read(fetched, monkeypatch, where):
    import boto3

    used = []
    client = boto3.client

    def noting(service, **options):
        used.append((service, options.get("aws_session_token")))
        return client(service, **options)

    monkeypatch.setattr(boto3, "client", noting)
    if where == "of the source":
        found = fetched(aws("team/token", ROLE, json=False))
    else:
        found = fetched(aws("team/token", json=False), role=ROLE)

    assert found == {"team_token": "t0ken"}
    assert used[0] == ("sts", None)
    assert used[1][0] == "secretsmanager"
    assert used[1][1]


def test_allow_override_replaces_a_variable_that_is_set(fetched, account, monkeypatch):
    monkeypatch.setitem(account, "DB_USER", "bob")

    with pytest.raises(SecretsError, match="gives DB_USER, which is set already; allow_override=True"):
        fetched("aws-secrets-manager.database")

    assert fetched("aws-secrets-manager.database", allow_override=True)["DB_USER"] == "ada"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["aws-secrets-manager.nothing"], "'aws-secrets-manager.nothing' can't be read: .*ResourceNotFound"),
        (
            ["aws-secrets-manager.team/token"],
            r"'aws-secrets-manager.team/token' is not a JSON object; .*'json': False",
        ),
        (["aws-secrets-manager.list"], "'aws-secrets-manager.list' is not a JSON object"),
        (["aws-secrets-manager.twins"], "has two keys that become the variable a_b"),
        (["aws-secrets-manager.zero"], "has a zero byte in ZERO"),
        (
            ["aws-secrets-manager.reserved"],
            "gives DASKFLOW_USER; names that begin with DASKFLOW_ and METAFLOW_",
        ),
        (
            ["aws-secrets-manager.key", aws("team/token", env_var_name="key")],
            "Both 'aws-secrets-manager.key' and 'aws-secrets-manager.team/token' give key",
        ),
    ],
)
def test_what_can_not_become_variables_is_an_error_that_shows_no_value(fetched, sources, message):
    with pytest.raises(SecretsError, match=message) as caught:
        fetched(*sources, allow_override=True)

    assert "t0ken" not in str(caught.value)


def test_if_one_source_fails_none_is_set(fetched):
    with pytest.raises(SecretsError):
        fetched("aws-secrets-manager.database", "aws-secrets-manager.nothing")

    assert "DB_USER" not in os.environ


def test_without_boto3_the_error_says_what_to_install(fetched, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(
        SecretsError, match=r"needs boto3, which is not installed: pip install 'daskflow\[aws\]'"
    ):
        fetched("aws-secrets-manager.database")


def test_a_whole_flow_reads_from_the_secrets_manager_also_by_with(run_flow, account):
    source = """
        import os
        from daskflow import FlowSpec, step

        class Login(FlowSpec):
            @step
            def start(self):
                self.user = os.environ["DB_USER"]
                self.next(self.end)

            @step
            def end(self):
                pass

        if __name__ == "__main__":
            Login()
    """

    result = run_flow(source, "--with", 'secrets:sources=["aws-secrets-manager.database"]', env=account)

    assert result.value("start", "user") == "ada"


def test_an_attempt_that_does_not_run_the_step_fetches_nothing():
    gone = secrets(sources=[{"type": "inline", "options": {"env_vars": {"HOME": "taken"}}}])

    gone.task_pre_step(None, Attempt("start", 1, fallback=True))

    assert os.environ["HOME"] != "taken"


# Mistakes are told before anything runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": "inline.x"}, "has sources that are not a list"),
        ({"sources": [7]}, "that is neither a text 'backend.id' nor a dict, but a int"),
        (
            {"sources": ["database"]},
            "in backend 'database'; write 'backend.id' with one of the backends inline, aws-",
        ),
        (
            {"sources": ["gcp-secret-manager.x"]},
            "in backend 'gcp-secret-manager'; .* inline, aws-secrets-manager",
        ),
        ({"sources": ["az-key-vault.x"]}, "in backend 'az-key-vault'; .* inline, aws-secrets-manager"),
        ({"sources": [{"id": "x"}]}, "in backend None"),
        ({"sources": [{"type": "inline", "name": "x"}]}, "with name; it may have id, options, role, type"),
        ({"sources": ["inline.x"]}, r"'inline.x' without options=\{'env_vars'"),
        ({"sources": ["aws-secrets-manager"]}, "without an id"),
        (
            {"sources": [aws("x", region="eu")]},
            "with the option region; aws-secrets-manager has env_var_name, json",
        ),
        ({"sources": [aws("x", json="no")]}, "with json='no', which is not a boolean"),
        ({"sources": [aws("x", env_var_name="1")]}, "env_var_name='1', which can't be the name"),
        ({"sources": [aws("x", env_var_name="X", json=True)]}, "exclude each other"),
        ({"sources": [{"type": "inline", "role": ROLE}]}, "which inline can't take on"),
        (
            {"sources": [{"type": "inline", "options": {"env_vars": {"A=": "sesame"}}}]},
            "'A=', which can't be the name",
        ),
        (
            {"sources": [{"type": "inline", "options": {"env_vars": {"A": ["sesame"]}}}]},
            "a value of A that is not",
        ),
        ({"role": 7}, "has role=7"),
        ({"allow_override": "yes"}, "has allow_override='yes'"),
    ],
)
def test_a_wrong_source_or_option_is_refused_before_a_run(options, message):
    decorator = secrets(**options)

    with pytest.raises(BadStepDecoratorException, match=message) as caught:
        decorator.step_init(None, Node(name="start"))

    assert caught.value.message.startswith("@secrets on step 'start' has ")
    assert "sesame" not in caught.value.message


@pytest.mark.parametrize(
    "options",
    ["sesame", {"env_vars": "sesame"}, {"env_vars": {"A": "sesame"}}],
    ids=["text", "no dict", "dict"],
)
def test_values_are_masked_however_they_are_written(options):
    told = secrets(sources=[{"type": "inline", "options": options}]).described()

    assert "***" in str(told)
    assert "sesame" not in str(told)
    assert "sesame" not in str(secrets(sources="sesame").described())
