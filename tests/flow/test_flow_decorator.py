"""Decorators of a flow: how they are written and inherited."""

from __future__ import annotations

import pytest

from daskflow import FlowDecorator, FlowSpec
from daskflow.errors import (
    BadFlowDecoratorException,
    DuplicateFlowDecoratorException,
    InvalidDecoratorAttribute,
)
from daskflow.flow.flow_decorator import decorators_of
from daskflow.flow.parameters import constants_of


class once(FlowDecorator):
    name = "once"
    defaults = {"option": 1}  # noqa: RUF012 - as the base class says


class often(FlowDecorator):
    name = "often"
    defaults = {"number": 0}  # noqa: RUF012
    allow_multiple = True


def numbers(flow_class):
    return [each.options["number"] for each in decorators_of(flow_class)]


def test_bare_and_called_are_the_same():
    @once
    class Bare(FlowSpec):
        pass

    @once()
    class Called(FlowSpec):
        pass

    @once(option=2)
    class Given(FlowSpec):
        pass

    found = [[each.options for each in decorators_of(flow)] for flow in (Bare, Called, Given)]
    assert found == [[{"option": 1}], [{"option": 1}], [{"option": 2}]]
    assert Bare.__name__ == "Bare"


def test_the_class_gets_no_constant_from_it():
    @once
    class Flow(FlowSpec):
        x = 1

    assert constants_of(Flow) == {"x": 1}


def test_an_unknown_option_is_refused_with_a_list_of_those_there_are():
    with pytest.raises(
        InvalidDecoratorAttribute, match="@once has no option opinion; its options are: option"
    ):
        once(opinion=2)


def test_an_option_without_a_name_is_refused():
    with pytest.raises(InvalidDecoratorAttribute, match="@once takes its options by name, not 2"):
        once(2)


@pytest.mark.parametrize("target", [int, len, lambda self: None], ids=["class", "builtin", "function"])
def test_on_anything_but_a_flow_it_is_refused(target):
    with pytest.raises(BadFlowDecoratorException, match="must stand above a flow"):
        once(target)


def test_twice_on_a_flow_is_refused():
    with pytest.raises(DuplicateFlowDecoratorException, match="Flow 'Flow' has @once twice"):

        @once
        @once
        class Flow(FlowSpec):
            pass


def test_a_flow_has_those_of_its_bases_its_own_first():
    @often(number=3)
    class Base(FlowSpec):
        pass

    class Middle(Base):
        pass

    @often(number=1)
    @often(number=2)
    class Flow(Middle):
        pass

    assert numbers(Flow) == [1, 2, 3]
    assert numbers(Middle) == numbers(Base) == [3]


def test_of_a_base_that_is_reached_twice_there_is_one():
    @once
    class Base(FlowSpec):
        pass

    class Left(Base):
        pass

    class Right(Base):
        pass

    class Diamond(Left, Right):
        pass

    assert len(decorators_of(Diamond)) == 1


def test_a_class_that_is_no_flow_yet_can_not_carry_one():
    with pytest.raises(BadFlowDecoratorException):

        @once
        class Mixin:
            pass


def test_two_bases_with_one_each_are_refused_where_they_come_together():
    @once
    class Left(FlowSpec):
        pass

    @once
    class Right(FlowSpec):
        pass

    with pytest.raises(DuplicateFlowDecoratorException, match="Flow 'Both' has @once twice"):

        class Both(Left, Right):
            pass


def test_one_on_a_flow_whose_base_has_it_is_refused():
    @once
    class Base(FlowSpec):
        pass

    with pytest.raises(DuplicateFlowDecoratorException):

        @once
        class Flow(Base):
            pass
