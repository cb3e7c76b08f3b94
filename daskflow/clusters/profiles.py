"""Profiles of clusters: what ``[cluster.NAME]`` of ``daskflow.toml`` says, checked.

A profile is a class with options, or machines in EC2.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from daskflow import settings
from daskflow.clusters.openness import parts_of_the_world
from daskflow.errors import ClusterError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

EC2 = "ec2"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""What a profile may be called: its name becomes a part of names in EC2."""
PYTHON = "/opt/daskflow/bin/python"
"""Where a machine image has its Python that was made as deploy/ says."""
CONFIGURATION = "DASK_INTERNAL_INHERIT_CONFIG"
"""The variable in which Dask's processes find a configuration. It has the cluster's key, so it stands in no command line."""
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_SECRETS = re.compile(r"AWS_(SECRET_ACCESS_KEY|SESSION_TOKEN|ACCESS_KEY_ID)", re.IGNORECASE)


@dataclass(frozen=True)
class ClassProfile:
    """A cluster of a class, and what it is called with."""

    name: str
    path: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ec2Profile:
    """Machines in EC2.

    Attributes
    ----------
    name
        How the profile is called.
    region
        None for the one that the AWS SDKs find.
    scheduler_instance_type, worker_instance_type
        Types of EC2.
    min_workers, max_workers
        Between these the number of workers follows the work.
    max_machines
        How many machines of this profile one person may have at once, schedulers included, as EC2 counts them.
    image
        A container image that has Python, daskflow and the flow's libraries; None if the machine image has them itself.
    ami
        A machine image that has cloud-init, and Docker if there is an ``image``; None for Amazon's own for containers.
    python
        The interpreter of a machine image that has the libraries itself.
    subnet
        None for one of the default VPC in whose zone there are machines of these types.
    security_group
        None for one that is made for the cluster, and removed with it.
    allow
        Which addresses may reach the scheduler, as CIDR blocks; None for the one we have.
    private
        The scheduler is reached by its private address; the machines have no public one.
    iam_instance_profile
        What the machines may do in the account: read and write the store.
    spot
        Workers are spot instances.
    idle_timeout, idle_worker, lifetime, start_timeout
        Seconds: without work until the scheduler ends the cluster; that there are more workers than the work needs until some go;
        until each machine ends whatever it does; that a scheduler may take to start.
    disk
        Size of a machine's volume, in GB.
    environment
        Variables of scheduler and workers.
    """

    name: str
    image: str | None = None
    region: str | None = None
    scheduler_instance_type: str = "m6i.large"
    worker_instance_type: str = "m6i.xlarge"
    min_workers: int = 0
    max_workers: int = 4
    max_machines: int = 0
    ami: str | None = None
    python: str = PYTHON
    subnet: str | None = None
    security_group: str | None = None
    allow: tuple[str, ...] | None = None
    private: bool = False
    iam_instance_profile: str | None = None
    spot: bool = False
    idle_timeout: int = 30 * 60
    idle_worker: int = 2 * 60
    lifetime: int = 7 * 86400
    start_timeout: int = 10 * 60
    disk: int = 40
    environment: Mapping[str, str] = field(default_factory=dict)


def find(name: str, folder: Path, options: Mapping[str, Any]) -> ClassProfile | Ec2Profile | None:
    """The profile ``name`` that holds for flows of a folder; None if there is none and ``name`` is no kind.

    Parameters
    ----------
    name
        A name; ``ec2`` needs no table if the options say what has to be said.
    folder
        Where the search for ``daskflow.toml`` starts.
    options
        Take precedence over what the table says.

    Raises :class:`ClusterError` or :class:`SettingsError` if it says something wrong, with the file and the nearest right name.
    """
    table = settings.cluster_tables(folder).get(name)
    if table is None and name != EC2:
        return None
    if table is None:
        table = settings.ClusterTable({"kind": EC2}, "--cluster-option")
    return _parsed(name, table, options)


def names(folder: Path) -> list[str]:
    """The names of the profiles that hold for flows of a folder."""
    return sorted(settings.cluster_tables(folder))


def suggestion(word: str, known: Iterable[str]) -> str:
    """A sentence about the known word that is nearest, or about all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, 1, cutoff=0.5)
    return f"Did you mean '{near[0]}'?" if near else f"There is {', '.join(known)}."


def _parsed(name: str, table: settings.ClusterTable, options: Mapping[str, Any]) -> ClassProfile | Ec2Profile:
    values = dict(table.values)
    where = f"{table.origin}: [{settings.CLUSTER}.{name}]"
    if not NAME.fullmatch(name):
        raise SettingsError(f"{where}: a profile's name has letters, digits, - and _ only, 63 at most.")
    kind = values.pop("kind", None)
    if kind is None and "class" not in values:
        raise SettingsError(f'{where} says neither kind = "{EC2}" nor class = "package.module.Class".')
    if kind in (None, "class"):
        return _class_profile(name, where, values, options)
    if kind != EC2:
        raise SettingsError(f"{where}: kind is {kind!r}; expected '{EC2}' or 'class'.")
    return _ec2_profile(name, where, values, options)


def _class_profile(name: str, where: str, values: dict[str, Any], options: Mapping[str, Any]) -> ClassProfile:
    for key in values:
        if key not in ("class", "options"):
            raise SettingsError(
                f"{where}: there is no key '{key}'; with what a class is called stands in [{settings.CLUSTER}.{name}.options]. "
                + suggestion(key, ("class", "options"))
            )
    path, own = values.get("class"), values.get("options", {})
    if not isinstance(path, str) or "." not in path:
        raise SettingsError(f'{where}: class is {path!r}; expected "package.module.Class".')
    if not isinstance(own, dict):
        raise SettingsError(f"{where}: options is {own!r}; expected a table.")
    return ClassProfile(name, path, own | dict(options))


def _ec2_profile(name: str, where: str, values: dict[str, Any], options: Mapping[str, Any]) -> Ec2Profile:
    known = {each.name for each in fields(Ec2Profile)} - {"name"}
    found: dict[str, Any] = {}
    for key, value in (values | dict(options)).items():
        said_by = "--cluster-option" if key in options else where
        if key not in known:
            raise SettingsError(f"{said_by}: there is no key '{key}'. {suggestion(key, known)}")
        expected, cast = _CASTS.get(key, _TEXT)
        try:
            found[key] = cast(value)
        except (TypeError, ValueError) as error:
            why = f" ({error})" if str(error) else ""
            # what a variable holds may be a secret
            is_what = "wrong" if key == "environment" and isinstance(value, dict) else repr(value)
            raise SettingsError(f"{said_by}: {key} is {is_what}; expected {expected}{why}.") from None
    if "image" not in found and "ami" not in found:
        raise ClusterError(
            f"{where} says neither image nor ami: scheduler and workers run in a container image, or on a machine image, that has "
            'Python, daskflow and the flow\'s libraries (deploy/ has recipes for both). Say image = "..." or ami = "...", or '
            "--cluster-option image=..."
        )
    if "image" in found and "python" in found:
        raise SettingsError(
            f"{where} says image and python: a container has its own Python. Leave out python, or image if scheduler and workers are "
            "to run on the ami itself."
        )
    profile = Ec2Profile(name=name, **found)
    if profile.max_workers < max(profile.min_workers, 1):
        raise SettingsError(
            f"{where}: max_workers is {profile.max_workers}, min_workers {profile.min_workers}; at least one worker, and no fewer "
            "than min_workers, must be allowed."
        )
    if "max_machines" not in found:
        return dataclasses.replace(profile, max_machines=profile.max_workers + 1)
    if profile.max_machines < max(profile.min_workers, 1) + 1:
        raise SettingsError(
            f"{where}: max_machines is {profile.max_machines}, which is too few for a scheduler and {max(profile.min_workers, 1)} "
            "workers."
        )
    return profile


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value or any(each.isspace() or not each.isprintable() for each in value):
        raise ValueError("it is empty or has blanks")
    return value


def _program(value: Any) -> str:
    if not _text(value).startswith("/"):
        raise ValueError("from / on")
    return str(value)


def _count(least: int) -> Callable[[Any], int]:
    def cast(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError
        if value < least:
            raise ValueError
        return value

    return cast


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _duration(value: Any) -> int:
    """Seconds of ``30 minutes``, ``1 hour`` or a number of seconds."""
    if isinstance(value, str):
        said = re.fullmatch(r"(\d+) ?(second|minute|hour|day)s?", value.strip())
        if said is None:
            raise ValueError
        value = int(said[1]) * _UNITS[said[2]]
    return _count(1)(value)


def duration_text(seconds: int) -> str:
    """As a profile would say it, in the largest unit of which it is a whole number: ``30 minutes``, ``1 hour``."""
    unit = next(unit for unit in reversed(_UNITS) if seconds % _UNITS[unit] == 0)
    number = seconds // _UNITS[unit]
    return f"{number} {unit}" + "s" * (number != 1)


def _lifetime(value: Any) -> int:
    seconds = _duration(value)
    if not 600 <= seconds <= 30 * _UNITS["day"]:
        raise ValueError("from 10 minutes to 30 days")
    return seconds


def _blocks(value: Any) -> tuple[str, ...]:
    each_of = [value] if isinstance(value, str) else value
    if not isinstance(each_of, list):
        raise TypeError
    blocks = tuple(str(ipaddress.ip_network(_text(each))) for each in each_of)
    for everybody in parts_of_the_world(blocks):
        if everybody not in blocks:
            raise ValueError(
                f'they are a large part of the internet; say "{everybody}" if that is what you want'
            )
    return blocks


def _variables(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is no name of a variable")
        if not isinstance(text, str) or "\0" in text:
            raise ValueError(f"{name} is no text; write it in quotes")
        if name == CONFIGURATION:
            raise ValueError(f"{name} is what daskflow tells scheduler and workers")
        if _SECRETS.fullmatch(name):
            raise ValueError(
                f"{name} would stand in the machines' user data, and outlive the cluster; let iam_instance_profile give them rights"
            )
    return dict(value)


_TEXT: tuple[str, Callable[[Any], Any]] = ("a text", _text)
_DURATION: tuple[str, Callable[[Any], Any]] = ('a time, such as "30 minutes"', _duration)
_CASTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "min_workers": ("a whole number from 0", _count(0)),
    "max_workers": ("a whole number from 1", _count(1)),
    "max_machines": ("a whole number from 2", _count(2)),
    "disk": ("a whole number of GB, from 8", _count(8)),
    "python": ('the path of an interpreter, such as "/opt/daskflow/bin/python"', _program),
    "spot": ("true or false", _truth),
    "private": ("true or false", _truth),
    "idle_timeout": _DURATION,
    "idle_worker": _DURATION,
    "start_timeout": _DURATION,
    "lifetime": ('a time from 10 minutes to 30 days, such as "2 days"', _lifetime),
    "allow": ('addresses such as "203.0.113.7/32"', _blocks),
    "environment": ("a table of texts", _variables),
}
