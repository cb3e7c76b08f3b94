"""The settings that apply now. The only module that reads environment variables and configuration files.

A setting is looked up under its name in

1. the environment,
2. ``daskflow.toml`` of the project, or ``.daskflow/config.json``: of the nearest directory, upwards, that has one of them,
3. ``$DASKFLOW_HOME/config.json``, or ``config_<profile>.json`` there if ``DASKFLOW_PROFILE`` is set,
4. and is its default otherwise.

``daskflow.toml`` has the names without ``DASKFLOW_``, in lower case: ``datastore = "s3://bucket/prefix"``; its tables
``[cluster.NAME]`` are profiles of clusters (:func:`cluster_tables`). A configuration file
in JSON is an object of the full names: ``{"DASKFLOW_DATASTORE": "results"}``. A relative path starts at the directory that
holds ``daskflow.toml``, or the JSON file's folder.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from daskflow.errors import SettingsError, UnknownUser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FOLDER = ".daskflow"
"""A project's folder: its configuration, and its store unless told otherwise."""
TOML = "daskflow.toml"
"""A project's configuration, in the place where people look for it."""
CLUSTER = "cluster"
"""The table of a configuration in TOML whose tables are profiles of clusters."""
LAUNCHERS = ("auto", "fork", "fresh")
"""How a task's process may be started."""

T = TypeVar("T")

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""How a URL begins, in contrast to a path."""
BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
"""The words for true and false, in lower case, wherever a text stands for one of them."""


@dataclass(frozen=True)
class Settings:
    """What applies now, from whichever source.

    Attributes
    ----------
    user
        Who runs the flow (see :func:`user_of`); ``None`` if nothing says it. Mostly wanted: :meth:`username`.
    home
        ``DASKFLOW_HOME``: the folder of the user's configuration files.
    profile
        ``DASKFLOW_PROFILE``: which of them counts; ``None`` for ``config.json``.
    default_datastore
        ``DASKFLOW_DATASTORE``, also ``DASKFLOW_DEFAULT_DATASTORE``, ``DASKFLOW_DATASTORE_SYSROOT_S3`` and
        ``DASKFLOW_DATASTORE_SYSROOT_LOCAL``: a directory, or ``s3://bucket/prefix``. ``None`` leaves it to :func:`datastore_root`.
    tempdir
        ``DASKFLOW_TEMPDIR``: where steps may put temporary files.
    default_cluster
        ``DASKFLOW_DEFAULT_CLUSTER``: what ``--cluster`` is without being given.
    default_decospecs
        ``DASKFLOW_DEFAULT_DECOSPECS``: what ``--with`` is given on top; separated by blanks, or a JSON list.
    max_workers
        ``DASKFLOW_MAX_WORKERS``: tasks at a time; ``None`` for what the cluster has.
    quiet
        ``DASKFLOW_QUIET``: no banner.
    launcher
        ``DASKFLOW_LAUNCHER``: how a task's process is started, one of :data:`LAUNCHERS`.
    production_token
        ``DASKFLOW_PRODUCTION_TOKEN``: look at the runs of that deployment. Mostly wanted: :meth:`namespace`.
    package_suffixes
        ``DASKFLOW_PACKAGE_SUFFIXES``: how the names of files end that travel to workers elsewhere, beside those that do anyway;
        ``*`` for all files.
    max_package_size
        ``DASKFLOW_MAX_PACKAGE_SIZE``: how large all of them may be together, in megabytes.
    notes
        Lines for the user about what was read, such as names in a configuration file that mean nothing.
    """

    user: str | None
    home: Path
    profile: str | None
    default_datastore: str | None
    tempdir: str
    default_cluster: str
    default_decospecs: tuple[str, ...]
    max_workers: int | None
    quiet: bool
    launcher: str
    production_token: str | None = None
    package_suffixes: tuple[str, ...] = ()
    max_package_size: int = 100
    notes: tuple[str, ...] = ()

    def username(self) -> str:
        """Who runs the flow. Raises :class:`UnknownUser` if nothing says it."""
        if self.user is None:
            raise UnknownUser(
                "Neither DASKFLOW_USER, SUDO_USER, USERNAME nor USER is set, and this process belongs to an "
                "account without a name. Set DASKFLOW_USER to your name."
            )
        return self.user

    def namespace(self) -> str:
        """The runs to look at: ``production:<token>`` if there is a token, else ``user:<name>``.

        Raises :class:`UnknownUser` if there is neither.
        """
        return f"production:{self.production_token}" if self.production_token else f"user:{self.username()}"


@dataclass(frozen=True)
class _Source:
    """Values by name, and where they are from."""

    origin: str
    values: Mapping[str, Any]
    directory: Path
    """Where relative paths start."""


@dataclass(frozen=True)
class _Kind(Generic[T]):
    """What a setting may be: how messages call it, and how a value becomes one, or a TypeError or ValueError."""

    expected: str
    cast: Callable[[Any], T]


@dataclass(frozen=True)
class _Found:
    """A value as it stands in its source."""

    name: str
    value: Any
    source: _Source

    def cast(self, kind: _Kind[T]) -> T:
        try:
            return kind.cast(self.value)
        except (TypeError, ValueError):
            raise SettingsError(
                f"{self.source.origin}: {self.name} is {self.value!r}; expected {kind.expected}."
            ) from None


class _Lookup:
    """Finds settings in sources, the first of which wins. A value of a wrong kind is a SettingsError."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.files: list[_Source] = []
        self._environment = _Source("environment", env, Path())
        self._known: set[str] = set()

    def get(self, kind: _Kind[T], *names: str) -> T | None:
        """The setting of one of ``names``, the first of which is its proper one; None if unset or empty."""
        found = self._find(names)
        return None if found is None else found.cast(kind)

    def place(self, kind: _Kind[str], *names: str) -> str | None:
        """A directory or URL; a relative directory in a file starts at the directory of the file's folder."""
        found = self._find(names)
        if found is None:
            return None
        place = found.cast(kind)
        return place if URL.match(place) else str(found.source.directory / self.expand(place))

    def expand(self, path: str) -> str:
        """``path`` with ``~`` expanded as this environment says."""
        home = self._environment.values.get("HOME")
        if home and (path == "~" or path.startswith("~/")):
            return f"{home}{path[1:]}"
        return os.path.expanduser(path)

    def notes(self) -> tuple[str, ...]:
        """A line for each name in a file that nothing asked for; the environment has names of others too."""
        return tuple(
            f"{file.origin}: '{name}' is no setting and is ignored. There is {', '.join(sorted(self._known))}."
            for file in self.files
            for name in file.values
            if name not in self._known
        )

    def _find(self, names: tuple[str, ...]) -> _Found | None:
        self._known.update(names)
        for source in (self._environment, *self.files):
            for name in names:
                value = source.values.get(name)
                if value not in (None, ""):
                    return _Found(name, value, source)
        return None


def load(env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
    """The settings that apply to a process in directory ``cwd`` with environment ``env``.

    Parameters
    ----------
    env
        The environment; that of this process by default.
    cwd
        Where the search for the project starts; the working directory by default.

    Raises
    ------
    SettingsError
        If a configuration file can't be read or is not a JSON object, the profile has no file, or a value is
        not of its setting's type; the message names the file or variable and the value.
    """
    env = os.environ if env is None else env
    cwd = (cwd or Path.cwd()).absolute()
    lookup = _Lookup(env)
    lookup.files += _project_configuration(cwd)
    # Where the user's own file is can't be said in that file, so these two are looked up before it is read.
    home = cwd / (lookup.place(_TEXT, "DASKFLOW_HOME") or lookup.expand("~/.daskflowconfig"))
    profile = lookup.get(_TEXT, "DASKFLOW_PROFILE")
    lookup.files += _home_configuration(home, profile)
    return Settings(
        user=lookup.get(_TEXT, "DASKFLOW_USER") or user_of(env),
        home=home,
        profile=profile,
        default_datastore=lookup.place(
            _DATASTORE,
            "DASKFLOW_DATASTORE",
            "DASKFLOW_DEFAULT_DATASTORE",
            "DASKFLOW_DATASTORE_SYSROOT_S3",
            "DASKFLOW_DATASTORE_SYSROOT_LOCAL",
        ),
        tempdir=lookup.place(_TEXT, "DASKFLOW_TEMPDIR") or ".",
        default_cluster=lookup.get(_TEXT, "DASKFLOW_DEFAULT_CLUSTER") or "local",
        default_decospecs=lookup.get(_WORDS, "DASKFLOW_DEFAULT_DECOSPECS") or (),
        max_workers=lookup.get(_COUNT, "DASKFLOW_MAX_WORKERS"),
        quiet=lookup.get(_BOOL, "DASKFLOW_QUIET") or False,
        launcher=lookup.get(_LAUNCHER, "DASKFLOW_LAUNCHER") or "auto",
        production_token=lookup.get(_TEXT, "DASKFLOW_PRODUCTION_TOKEN"),
        package_suffixes=lookup.get(_SUFFIXES, "DASKFLOW_PACKAGE_SUFFIXES") or (),
        max_package_size=lookup.get(_COUNT, "DASKFLOW_MAX_PACKAGE_SIZE") or 100,
        notes=lookup.notes(),
    )


@dataclass(frozen=True)
class ClusterTable:
    """What a configuration says about a cluster, as it stands there, and the file that says it."""

    values: Mapping[str, Any]
    origin: str


def cluster_tables(folder: Path) -> dict[str, ClusterTable]:
    """The tables ``[cluster.NAME]`` that hold for flows of a folder, by name.

    They stand in the nearest ``daskflow.toml``, upwards, and in ``~/.config/daskflow.toml``; of two with the same name the
    nearer counts.

    Raises :class:`SettingsError` if a file can't be read, or has something else in that place.
    """
    home = Path(os.path.expanduser("~/.config"), TOML)
    folder = folder.absolute()
    project = next((each / TOML for each in (folder, *folder.parents) if (each / TOML).is_file()), home)
    found: dict[str, ClusterTable] = {}
    for file in (home, project):
        if file.is_file():
            found |= _cluster_tables_of(file)
    return found


def _cluster_tables_of(file: Path) -> dict[str, ClusterTable]:
    tables = _toml(file).get(CLUSTER, {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise SettingsError(f"{file}: '{CLUSTER}' holds {tables!r}; expected tables [{CLUSTER}.NAME].")
    return {name: ClusterTable(values, str(file)) for name, values in tables.items()}


def refuses_colour() -> bool:
    """Whether ``NO_COLOR`` asks all programs for output without colours."""
    return bool(os.environ.get("NO_COLOR"))


def account_name() -> str | None:
    """The name of the account this process belongs to, if the system knows one."""
    try:
        import pwd
    except ImportError:  # not a POSIX system
        return None
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that no account has
        return None


def user_of(env: Mapping[str, str], account: Callable[[], str | None] = account_name) -> str | None:
    """Who runs the flow: the first of SUDO_USER, USERNAME, USER and the process's account that is not root.

    ``DASKFLOW_USER``, which is a setting like others, comes before all of them. If there is only root, it is
    root: in a container everybody is, often without a variable that says so, and refusing to run there would
    help nobody.
    """
    names = [env.get(variable) for variable in ("SUDO_USER", "USERNAME", "USER")]
    found = [name for name in (*names, account()) if name]
    return next((name for name in found if name != "root"), found[0] if found else None)


def datastore_root(settings: Settings, cwd: Path | None = None, option: str | None = None) -> str:
    """Where the store is: a URL as it was given, or the absolute path of a directory (also of ``file://``), which may not exist yet.

    It is ``option`` (``--datastore``), or else the setting, or else the nearest folder ``.daskflow`` of
    ``cwd`` or a directory above it, or else ``.daskflow`` in ``cwd``.

    Raises :class:`SettingsError` if ``option`` is one of the bare words ``s3`` and ``local``.
    """
    cwd = (cwd or Path.cwd()).absolute()
    if option:
        place = _Found("--datastore", option, _Source("command line", {}, Path())).cast(_DATASTORE)
    elif settings.default_datastore:
        place = settings.default_datastore
    else:
        parents = (folder / FOLDER for folder in (cwd, *cwd.parents))
        return str(next((folder for folder in parents if os.path.isdir(folder)), cwd / FOLDER))
    place = place.removeprefix("file://")
    if URL.match(place):
        scheme, _, path = place.partition("://")
        return f"{scheme}://{path.rstrip('/')}"
    return os.path.normpath(cwd / os.path.expanduser(place))


def cache_folder() -> Path:
    """Where is kept what can be made anew: ``$XDG_CACHE_HOME/daskflow``, else ``~/.cache/daskflow``.

    Raises :class:`SettingsError` if there is no home.
    """
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(folder):
        raise SettingsError("There is no home directory for a cache: set XDG_CACHE_HOME to a folder.")
    return Path(folder, "daskflow")


def _project_configuration(cwd: Path) -> list[_Source]:
    for directory in (cwd, *cwd.parents):
        files = (directory / TOML, directory / FOLDER / "config.json")
        if found := [_read(file) for file in files if os.path.isfile(file)]:
            return found
    return []


def _home_configuration(home: Path, profile: str | None) -> list[_Source]:
    file = home / (f"config_{profile}.json" if profile else "config.json")
    if os.path.isfile(file):
        return [_read(file)]
    if profile:
        raise SettingsError(
            f"The profile is '{profile}' (DASKFLOW_PROFILE), but there is no file {file}. Create it, or unset "
            "the profile."
        )
    return []


def _read(file: Path) -> _Source:
    if file.name == TOML:
        values = {f"DASKFLOW_{name.upper()}": each for name, each in _toml(file).items() if name != CLUSTER}
        return _Source(str(file), values, file.parent)
    try:
        values = json.loads(_text_of(file))
    except ValueError as error:
        raise SettingsError(f"{file} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{file} holds {values!r}; expected a JSON object of settings, by name.")
    return _Source(str(file), values, file.parent.parent)


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text_of(file))
    except ValueError as error:
        raise SettingsError(f"{file} is not TOML: {error}.") from error


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"{file} can't be read: {error.strerror}.") from error


def _as_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _as_datastore(value: Any) -> str:
    if value in ("s3", "local"):  # kinds of stores, which would quietly become directories of those names
        raise ValueError
    return _as_text(value)


def _as_count(value: Any) -> int:
    if isinstance(value, bool | float) or int(value) < 1:
        raise ValueError
    return int(value)


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in BOOLEANS:
        raise ValueError
    return BOOLEANS[text]


def _as_words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split()
    if not isinstance(value, list):
        raise TypeError
    return tuple(map(_as_text, value))


def suffixes(value: Any) -> tuple[str, ...]:
    """Ends of file names from words, be there commas between them. Raises ``ValueError`` or ``TypeError`` if it holds others."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = value.replace(",", " ")
    found = _as_words(value)
    if not all(word == "*" or (word.startswith(".") and len(word) > 1) for word in found):
        raise ValueError
    return found


def _as_launcher(value: Any) -> str:
    if value not in LAUNCHERS:
        raise ValueError
    return str(value)


_TEXT = _Kind("a string", _as_text)
_DATASTORE = _Kind("a directory (./s3 for one called s3), or s3://bucket/prefix", _as_datastore)
_COUNT = _Kind("a whole number from 1", _as_count)
_BOOL = _Kind("true or false", _as_bool)
_WORDS = _Kind("words separated by blanks, or a list of strings", _as_words)
SUFFIXES_EXPECTED = "suffixes such as .parquet, or *"
_SUFFIXES = _Kind(SUFFIXES_EXPECTED, suffixes)
_LAUNCHER = _Kind(f"one of {', '.join(LAUNCHERS)}", _as_launcher)
