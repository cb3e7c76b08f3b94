"""daskflow: flows of steps, run on Dask.

Names are loaded when they are first used, so that ``import daskflow`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from daskflow._current import current
    from daskflow.client import (
        Daskflow,
        DataArtifact,
        Flow,
        Run,
        Step,
        Task,
        default_namespace,
        get_namespace,
        namespace,
    )
    from daskflow.decorators.catch import catch
    from daskflow.decorators.environment import environment
    from daskflow.decorators.exit_hook import exit_hook
    from daskflow.decorators.isolated import isolated
    from daskflow.decorators.resources import resources
    from daskflow.decorators.retry import retry
    from daskflow.decorators.secrets import secrets
    from daskflow.decorators.timeout import timeout
    from daskflow.flow.decorator import StepDecorator
    from daskflow.flow.flow_decorator import FlowDecorator
    from daskflow.flow.include_file import IncludeFile
    from daskflow.flow.parameters import JSONType, JSONTypeClass, Parameter
    from daskflow.flow.spec import FlowSpec, step

_WHERE = {
    # writing flows
    "FlowSpec": "daskflow.flow.spec",
    "step": "daskflow.flow.spec",
    "Parameter": "daskflow.flow.parameters",
    "JSONType": "daskflow.flow.parameters",
    "JSONTypeClass": "daskflow.flow.parameters",
    "IncludeFile": "daskflow.flow.include_file",
    "current": "daskflow._current",
    "retry": "daskflow.decorators.retry",
    "catch": "daskflow.decorators.catch",
    "timeout": "daskflow.decorators.timeout",
    "environment": "daskflow.decorators.environment",
    "resources": "daskflow.decorators.resources",
    "isolated": "daskflow.decorators.isolated",
    "secrets": "daskflow.decorators.secrets",
    "exit_hook": "daskflow.decorators.exit_hook",
    "StepDecorator": "daskflow.flow.decorator",
    "FlowDecorator": "daskflow.flow.flow_decorator",
    # reading what they left
    "Daskflow": "daskflow.client",
    "Flow": "daskflow.client",
    "Run": "daskflow.client",
    "Step": "daskflow.client",
    "Task": "daskflow.client",
    "DataArtifact": "daskflow.client",
    "namespace": "daskflow.client",
    "get_namespace": "daskflow.client",
    "default_namespace": "daskflow.client",
}

__all__ = [
    "Daskflow",
    "DataArtifact",
    "Flow",
    "FlowDecorator",
    "FlowSpec",
    "IncludeFile",
    "JSONType",
    "JSONTypeClass",
    "Parameter",
    "Run",
    "Step",
    "StepDecorator",
    "Task",
    "catch",
    "current",
    "default_namespace",
    "environment",
    "exit_hook",
    "get_namespace",
    "isolated",
    "namespace",
    "resources",
    "retry",
    "secrets",
    "step",
    "timeout",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'daskflow' has no attribute '{name}'; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
