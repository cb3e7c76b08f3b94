"""Errors travel: a task's process sends them, and a user may keep one as an artifact."""

from __future__ import annotations

import pickle

import pytest

from daskflow import errors

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_its_way_to_another_process(kind):
    if issubclass(kind, errors.MergeArtifactsException):
        error = kind("They differ.", ["x", "y"])
    elif issubclass(kind, errors.DaskflowException):
        error = kind("It went wrong.", 7, "flow.py")
    elif issubclass(kind, errors.ExceptionWrapper):
        error = kind("builtins.ValueError", "no", "Traceback ...")
    else:
        error = kind("It went wrong.")

    again = pickle.loads(pickle.dumps(error))

    assert type(again) is kind
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
