"""Where ``@secrets`` finds its values: a source names a backend, which gives environment variables."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskflow.errors import SecretsError

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELDS = {"type", "id", "options", "role"}


@dataclass(frozen=True)
class Source:
    """A secret: what it is called, in which backend.

    ``options`` may hold values, so neither its ``repr`` nor an error shows them.
    """

    type: str
    id: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    role: str | None = None

    def __str__(self) -> str:
        return f"{self.type}.{self.id}" if self.id else self.type

    @classmethod
    def of(cls, given: Any, role: str | None = None) -> Source:
        """The source that a user wrote; ``role`` is for one that names none.

        Raises ``ValueError``, which ends the sentence "it has a source ...", if it is none.
        """
        if isinstance(given, str):
            given = dict(zip(("type", "id"), given.split(".", 1), strict=False))
        if not isinstance(given, dict):
            raise ValueError(f"that is neither a text 'backend.id' nor a dict, but a {type(given).__name__}")
        unknown = sorted(map(str, set(given) - _FIELDS))
        if unknown:
            raise ValueError(f"with {', '.join(unknown)}; it may have {', '.join(sorted(_FIELDS))}")
        kind, identity = given.get("type"), given.get("id", "")
        options, own_role = given.get("options") or {}, given.get("role")
        if not isinstance(kind, str) or kind not in BACKENDS:
            raise ValueError(
                f"in backend {kind!r}; write 'backend.id' with one of the backends {', '.join(BACKENDS)}"
            )
        if not isinstance(identity, str) or not isinstance(options, dict):
            raise ValueError(f"in {kind} whose id is not a text or whose options are not a dict")
        backend = BACKENDS[kind]
        unknown = sorted(map(str, set(options) - backend.options))
        if unknown:
            has = ", ".join(sorted(backend.options))
            raise ValueError(f"'{kind}.{identity}' with the option {', '.join(unknown)}; {kind} has {has}")
        if own_role is not None and not (backend.roles and isinstance(own_role, str)):
            raise ValueError(f"'{kind}.{identity}' with role={own_role!r}, which {kind} can't take on")
        source = cls(kind, identity, options, own_role or role)
        backend.check(source)
        return source


@dataclass(frozen=True)
class Backend:
    """A place that keeps secrets.

    Attributes
    ----------
    options
        Names of the options that a source may have.
    roles
        Whether a source may have a role.
    check
        Raises ``ValueError``, as :meth:`Source.of` does, if the source is not complete.
    fetch
        The variables that a source gives. Raises :class:`SecretsError`; its text holds no value.
    """

    options: frozenset[str]
    roles: bool
    check: Callable[[Source], None]
    fetch: Callable[[Source], dict[str, str]]


def masked(given: Any) -> Any:
    """A source as a user wrote it, without values."""
    options = given.get("options") if isinstance(given, dict) else None
    if not options:
        return given
    if not isinstance(options, dict):
        return {**given, "options": "***"}
    if "env_vars" not in options:
        return given
    values = options["env_vars"]
    hidden = dict.fromkeys(values, "***") if isinstance(values, dict) else "***"
    return {**given, "options": {**options, "env_vars": hidden}}


def _check_inline(source: Source) -> None:
    values = source.options.get("env_vars")
    if not isinstance(values, dict):
        raise ValueError(f"'{source}' without options={{'env_vars': {{...}}}}")
    for name, value in values.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ValueError(f"'{source}' with {name!r}, which can't be the name of an environment variable")
        if not isinstance(value, str | int | float | bool) or "\0" in str(value):
            raise ValueError(f"'{source}' with a value of {name} that is not a text")


def _fetch_inline(source: Source) -> dict[str, str]:
    return {name: str(value) for name, value in source.options["env_vars"].items()}


def _check_aws(source: Source) -> None:
    if not source.id:
        raise ValueError("in aws-secrets-manager without an id, the name or ARN of the secret")
    as_json, name = source.options.get("json"), source.options.get("env_var_name")
    if as_json not in (None, True, False):
        raise ValueError(f"'{source}' with json={as_json!r}, which is not a boolean")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"'{source}' with env_var_name={name!r}, which can't be the name of a variable")
    if name is not None and as_json:
        raise ValueError(f"'{source}' with env_var_name and json=True, which exclude each other")


def _fetch_aws(source: Source) -> dict[str, str]:
    """A JSON object gives a variable for each key; anything else is one variable, a binary secret as Base64."""
    answer = _read_aws(source)
    whole = source.options.get("env_var_name") or _as_name(answer["Name"])
    if "SecretBinary" in answer:
        return {whole: base64.b64encode(answer["SecretBinary"]).decode()}
    text: str = answer["SecretString"]
    if "env_var_name" in source.options or source.options.get("json") is False:
        return _checked(source, {whole: text})
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SecretsError(
            f"'{source}' is not a JSON object; with options={{'json': False}} it is one variable, named after the secret, "
            "with options={'env_var_name': NAME} it is NAME."
        )
    variables: dict[str, str] = {}
    for key, value in found.items():
        name = _as_name(key)
        if name in variables:
            raise SecretsError(f"'{source}' has two keys that become the variable {name}.")
        variables[name] = value if isinstance(value, str) else json.dumps(value)
    return _checked(source, variables)


def _read_aws(source: Source) -> dict[str, Any]:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise SecretsError(
            f"'{source}' needs boto3, which is not installed: pip install 'daskflow[aws]'."
        ) from None
    place = {"region_name": source.id.split(":")[3]} if source.id.startswith("arn:") else {}
    try:
        account = {}
        if source.role:
            role = boto3.client("sts").assume_role(RoleArn=source.role, RoleSessionName="daskflow")
            account = {
                "aws_access_key_id": role["Credentials"]["AccessKeyId"],
                "aws_secret_access_key": role["Credentials"]["SecretAccessKey"],
                "aws_session_token": role["Credentials"]["SessionToken"],
            }
        answer: dict[str, Any] = boto3.client("secretsmanager", **place, **account).get_secret_value(
            SecretId=source.id
        )
    except (BotoCoreError, ClientError) as error:
        raise SecretsError(f"'{source}' can't be read: {error}") from error
    return answer


def _as_name(text: str) -> str:
    """The nearest name that a variable can have."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return name if _NAME.fullmatch(name) else f"_{name}"


def _checked(source: Source, variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if "\0" in value:
            raise SecretsError(f"'{source}' has a zero byte in {name}, which no variable can hold.")
    return variables


BACKENDS = {
    "inline": Backend(frozenset({"env_vars"}), False, _check_inline, _fetch_inline),
    "aws-secrets-manager": Backend(frozenset({"json", "env_var_name"}), True, _check_aws, _fetch_aws),
}
"""By the name that a source begins with."""
