"""Every error daskflow raises, in one tree.

::

    DaskflowException                      what a user sees: one headline, one message, exit status 1
    ├── InternalError                      a defect of daskflow itself
    ├── CommandException                   a command line that can't be carried out
    ├── PackageError                       a flow's folder that can't travel to the workers
    ├── NotFound                           no such flow, run, step, task or artifact
    │   └── DataMissing                    a record or file that should be there is not, or can't be read
    ├── NamespaceMismatch                  it exists, but in another namespace
    ├── InvalidPathspec                    wrong number or shape of parts
    ├── UnknownUser                        no user name to be had from the environment
    ├── SettingsError                      an environment variable or configuration file with a wrong value
    ├── LintWarn                           the flow's source breaks a rule (``check``)
    ├── InvalidNextException               a ``self.next`` that can't be followed
    ├── BadStepDecoratorException          a decorator where none can be
    │   ├── BadFlowDecoratorException
    │   ├── DuplicateStepDecoratorException
    │   ├── DuplicateFlowDecoratorException
    │   ├── UnknownStepDecoratorException
    │   └── InvalidDecoratorAttribute
    ├── ParameterError                     a Parameter that is declared wrongly
    │   ├── ParameterFieldFailed
    │   └── ParameterFieldTypeMismatch
    ├── DataException                      an artifact that can't be stored or loaded
    │   └── UnpicklableArtifactException
    ├── MergeArtifactsException            merge_artifacts was called wrongly
    │   ├── UnhandledInMergeArtifactsException
    │   └── MissingInMergeArtifactsException
    ├── TaggingError                       a tag that can't be given or taken
    ├── StoreError                         the store refused, or is full
    │   ├── DamagedRecord                  a record that is not what was written
    │   └── Unavailable                    a store that does not answer now
    ├── ClusterError                       no cluster, or it does not answer
    ├── RequirementsError                  the environment that a run asks for can't be made
    ├── SecretsError                       a secret that can't be read, or can't become a variable
    ├── HookFailed                         a function called after a run failed
    ├── TimeoutException                   a step took longer than its ``@timeout`` allows
    ├── FailureHandledByCatch              stands for the failure of a process that ``@catch`` dealt with
    ├── RunHeld                            another driver drives this run
    └── TaskFailed                         a run ended because a task failed for good
    ExceptionWrapper                       a user's exception as it is stored: type, text, traceback
    DamagedRecordWarning                   a record was left out of a listing, because it can't be read
    OverwrittenWarning                     a file is no longer what a task wrote
"""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")

MAX_ATTEMPTS = 6
"""Attempts of one task, fallback attempts of ``@catch`` included."""
EXIT_DISALLOW_RETRY = 202
"""Exit status by which a step's process says: do not try again."""
EXIT_ALLOW_RETRY = 203
"""Exit status by which a step's process says: try again."""


def is_ours(file: str) -> bool:
    """Whether a source file is one of daskflow's: its lines say nothing about the user's code."""
    return file.startswith(_PACKAGE)


class DaskflowException(Exception):
    """Base of all errors a user may see.

    Parameters
    ----------
    message
        What happened, with which value, and what to do.
    lineno, source_file
        The place in the user's source that is to blame, if known.
    """

    headline = "Flow failed"

    def __init__(self, message: str = "", lineno: int | None = None, source_file: str | None = None) -> None:
        self.message = message
        self.line_no = lineno
        self.source_file = source_file
        super().__init__(message, lineno, source_file)

    def __str__(self) -> str:
        place = "" if self.line_no is None else f"line {self.line_no}"
        if self.source_file:
            place = f"{self.source_file}, {place}" if place else self.source_file
        return f"{self.message} [{place}]" if place else self.message


class InternalError(DaskflowException):
    """A defect of daskflow itself."""

    headline = "Internal error"


class CommandException(DaskflowException):
    """A command line that is well formed but can't be carried out."""

    headline = "Invalid command"


class PackageError(DaskflowException):
    """What is beside the flow can't be packed, or laid out where its tasks run."""

    headline = "The flow's folder can't travel"


class NotFound(DaskflowException):
    """No such flow, run, step, task or artifact in this store."""

    headline = "Object not found"


class DataMissing(NotFound):
    """A record or file that should be in the store is missing or damaged."""

    headline = "Data missing"


class NamespaceMismatch(DaskflowException):
    """The object exists, but the current namespace does not show it."""

    headline = "Object not in the namespace"


class InvalidPathspec(DaskflowException):
    """A pathspec with the wrong number or shape of parts."""

    headline = "Invalid pathspec"


class UnknownUser(DaskflowException):
    """The environment names no user."""

    headline = "Unknown user"


class SettingsError(DaskflowException):
    """An environment variable or a configuration file holds a wrong value."""

    headline = "Invalid settings"


class LintWarn(DaskflowException):
    """The flow's source breaks a rule."""

    headline = "Validity checker found an issue"


class InvalidNextException(DaskflowException):
    """A ``self.next`` that can't be followed."""

    headline = "Invalid self.next() transition detected"


class BadStepDecoratorException(DaskflowException):
    """A step decorator on something that is not a step."""

    headline = "Syntax error"


class BadFlowDecoratorException(BadStepDecoratorException):
    """A flow decorator on something that is not a flow."""


class DuplicateStepDecoratorException(BadStepDecoratorException):
    """One step decorator twice on a step."""

    headline = "Duplicate decorators"


class DuplicateFlowDecoratorException(BadStepDecoratorException):
    """One flow decorator twice on a flow."""

    headline = "Duplicate decorators"


class InvalidDecoratorAttribute(BadStepDecoratorException):
    """A decorator was given an option it does not have."""

    headline = "Unknown decorator attribute"


class UnknownStepDecoratorException(BadStepDecoratorException):
    """There is no decorator of that name."""

    headline = "Unknown step decorator"


class ParameterError(DaskflowException):
    """A Parameter that is declared wrongly."""

    headline = "Invalid parameter"


class ParameterFieldFailed(ParameterError):
    """A callable default raised."""

    headline = "Parameter field failed"


class ParameterFieldTypeMismatch(ParameterError):
    """A default is not of the parameter's type."""

    headline = "Parameter field with a mismatching type"


class DataException(DaskflowException):
    """An artifact that can't be stored or loaded."""

    headline = "Data store error"


class UnpicklableArtifactException(DataException):
    """An artifact that neither JSON, Parquet nor pickle can hold."""

    headline = "Unpicklable artifact"


class MergeArtifactsException(DaskflowException):
    """``merge_artifacts`` was called wrongly.

    Parameters
    ----------
    message
        The whole text.
    artifact_names
        The artifacts it is about.
    """

    headline = "Can't merge artifacts"

    def __init__(self, message: str = "", artifact_names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.artifact_names = list(artifact_names)
        self.args = (message, self.artifact_names)  # what unpickling passes


class UnhandledInMergeArtifactsException(MergeArtifactsException):
    """Inputs disagree on artifacts that the join did not resolve; ``artifact_names`` are those."""

    headline = "Unhandled artifacts in merge"


class MissingInMergeArtifactsException(MergeArtifactsException):
    """``merge_artifacts(include=...)`` names artifacts that no input has; ``artifact_names`` are those."""

    headline = "Missing artifacts in merge"


class TaggingError(DaskflowException):
    """A tag that can't be given to a run, or taken from it."""

    headline = "Tagging error"


class StoreError(DaskflowException):
    """The store refused an operation, is full, or is damaged."""

    headline = "Store error"


class Unavailable(StoreError):
    """The store does not answer, or says that it is busy: that may pass by itself."""


class DamagedRecord(StoreError):
    """A record in the store is not what was written there."""


class ClusterError(DaskflowException):
    """The cluster can't be started or does not answer."""

    headline = "Cluster error"


class RequirementsError(DaskflowException):
    """What a run asks for by ``--requirements`` can't be had."""

    headline = "Requirements"


class SecretsError(DaskflowException):
    """A secret that can't be read, or that can't become an environment variable."""

    headline = "@secrets"


class HookFailed(DaskflowException):
    """A function that was called after a run failed."""

    headline = "Hook failed"


class TimeoutException(DaskflowException):
    """A step took longer than its ``@timeout`` allows."""

    headline = "@timeout"


class FailureHandledByCatch(DaskflowException):
    """Stands for the failure of a process that ``@catch`` dealt with: nothing else is left of it."""

    headline = "Task execution kept failing"


class RunHeld(DaskflowException):
    """Another driver drives this run, or has taken it over."""

    headline = "The run is driven by another"


class TaskFailed(DaskflowException):
    """A task failed for good, and so did its run."""

    headline = "Step failure"


class ExceptionWrapper(Exception):
    """A user's exception as it is stored: its type, text and traceback, without the object itself.

    Attributes
    ----------
    type
        Qualified name of the exception's class, such as ``builtins.ValueError``.
    exception
        ``str(error)``.
    stacktrace
        The formatted traceback.
    """

    def __init__(self, type: str, exception: str, stacktrace: str) -> None:  # noqa: A002 - the stored field's name
        super().__init__(type, exception, stacktrace)
        self.type = type
        self.exception = exception
        self.stacktrace = stacktrace

    @classmethod
    def of(cls, error: BaseException) -> ExceptionWrapper:
        """Wrap ``error`` with its traceback."""
        kind = type(error)
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
            text = f"<the __str__ of this {kind.__qualname__} raised an exception>"
        return cls(
            f"{kind.__module__}.{kind.__qualname__}",
            text,
            "".join(traceback.format_exception(error)),
        )

    def __str__(self) -> str:
        return self.stacktrace

    def __repr__(self) -> str:
        return f"ExceptionWrapper({self.type}: {self.exception})"


class OverwrittenWarning(UserWarning):
    """An artifact's file was overwritten by others; as its bucket keeps versions, what the task wrote is read."""


class DamagedRecordWarning(UserWarning):
    """A record was left out of a listing, because it can't be read."""
