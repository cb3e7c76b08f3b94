"""IncludeFile: a parameter whose value is the content of a local file."""

from __future__ import annotations

import codecs
import importlib
import os
import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from daskflow.errors import ParameterError, ParameterFieldFailed
from daskflow.flow.parameters import Parameter
from daskflow.settings import URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.flow.parameters import HoldsArtifacts, ParameterContext


class IncludeFile(Parameter):
    """A local file that becomes part of the run: ``--name PATH`` is read when the run starts.

    In a step, the attribute is the content, or what ``parser`` makes of it. The artifact that is stored, and
    that the client shows, is the content itself, byte for byte (line ends are not translated). Without a path
    it is ``None``.

    Parameters
    ----------
    name
        The option on the command line, without dashes.
    default
        The path of a run that is given none, or a callable that takes a ``ParameterContext`` and returns it.
    required
        Refuse to run without a path.
    is_text
        Decode the content to ``str``; otherwise it is ``bytes``.
    encoding
        Of the text.
    help
        The line in ``run --help``.
    parser
        A callable, or the dotted name of one (``"json.loads"``), applied when a step reads the attribute,
        once a task.
    show_default
        Show the default in ``run --help``.
    kwargs
        Passed on to ``click.Option``.
    """

    def __init__(  # noqa: PLR0913 - one keyword for each thing a user may say about a file
        self,
        name: str,
        default: Any = None,
        required: bool = False,
        is_text: bool = True,
        encoding: str = "utf-8",
        help: str | None = None,  # noqa: A002 - the keyword of the public API
        *,
        parser: Callable[[Any], Any] | str | None = None,
        show_default: bool = True,
        **kwargs: Any,
    ) -> None:
        path = os.fspath(default) if isinstance(default, os.PathLike) else default
        super().__init__(name, path, str, help, required, show_default, **kwargs)
        self.is_text = is_text
        self.encoding = encoding
        self.parser = parser
        # What a task changes in its parsed value stays in that task, hence one value for each flow object.
        self._parsed: WeakKeyDictionary[HoldsArtifacts, Any] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_parsed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _parsed=WeakKeyDictionary())

    def __get__(self, flow: HoldsArtifacts | None, owner: Any = None) -> Any:
        content: Any = super().__get__(flow, owner)
        if flow is None or content is None or self.parser is None:
            return content
        if flow not in self._parsed:
            self._parsed[flow] = self._parse(content)
        return self._parsed[flow]

    def convert(self, text: str) -> str | bytes:
        """The content of the file at path ``text``, relative to the working directory, ``~`` expanded.

        Raises
        ------
        ValueError
            If there is no such file, it can't be read or decoded, or ``text`` is a URL.
        """
        if URL.match(text):
            raise ValueError(
                f"'{text}' is a URL, and IncludeFile reads local files only. Download it first, or read it "
                "in a step."
            )
        try:
            with open(os.path.expanduser(text), "rb") as file:
                content = file.read()
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte
            reason = getattr(error, "strerror", None) or str(error)
            raise ValueError(f"Could not read file '{text}': {reason}.") from error
        return self._decode(content, text) if self.is_text else content

    def resolve_default(self, context: ParameterContext) -> str | bytes | None:
        """The content of the default file; ``None`` if there is no default.

        Raises what :meth:`Parameter.resolve_default` and :meth:`convert` raise.
        """
        if not self.has_deploy_time_default:
            return None if self.default is None else self.convert(self.default)
        path = self._call_default(context)
        if not isinstance(path, str | os.PathLike):
            raise self._mismatch(path)
        return self.convert(os.fspath(path))

    def check(self) -> None:
        """Raise :class:`ParameterError` if this can't be a parameter; the default file is not read."""
        super().check()
        if self.is_text:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ParameterError(
                    f"IncludeFile '{self.name}' has an encoding that Python does not know: '{self.encoding}'."
                ) from None
        if self.parser is None or callable(self.parser):
            return
        if not isinstance(self.parser, str) or not re.fullmatch(r"\w+(\.\w+)+", self.parser):
            raise ParameterError(
                f"IncludeFile '{self.name}' has the parser {self.parser!r}: give a callable, or the dotted name "
                "of one such as 'package.module.function'."
            )

    def _static_default(self) -> Any:
        """The default path: its file is read when a run needs it, not when the flow is checked."""
        if self.default is not None and not isinstance(self.default, str):
            raise self._mismatch(self.default)
        return self.default

    def _type_name(self) -> str:
        return "a path, as str or Path"

    def _decode(self, content: bytes, path: str) -> str:
        try:
            return content.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"Could not read file '{path}' as {self.encoding} text: {error.reason} at byte {error.start}. "
                f"Declare IncludeFile '{self.name}' with the file's encoding, or with is_text=False for bytes."
            ) from error

    def _parse(self, content: str | bytes) -> Any:
        # Wrapped, because an AttributeError that left __get__ would be taken for a missing attribute.
        try:
            parser = _by_dotted_name(self.parser) if isinstance(self.parser, str) else self.parser
            return parser(content) if parser else content
        except Exception as error:
            raise ParameterFieldFailed(
                f"The parser {self.parser!r} of IncludeFile '{self.name}' raised "
                f"{error.__class__.__name__}: {error}."
            ) from error


def _by_dotted_name(name: str) -> Callable[[Any], Any]:
    module, _, function = name.rpartition(".")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return found
