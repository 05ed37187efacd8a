"""Options: what a signature allows, said in words and checked."""

from typing import Annotated, Any, Literal

import pytest

from pooling.options import (
    Option,
    Range,
    accepts,
    check_names,
    check_option,
    describe,
    did_you_mean,
    signature_options,
)


def operator(
    x,
    *,
    beta: Annotated[float, Range(above=0)] = 1.0,
    mode: Literal["relu", "shift"] = "relu",
    required: int,
    stride: int = 2,
    **others: Any,
) -> None: ...


def test_options_are_the_keyword_only_parameters() -> None:
    options = signature_options(operator, without=["stride"])
    assert list(options) == ["beta", "mode", "required"]
    assert options["beta"].default == 1.0
    assert options["required"].default is Option.REQUIRED


def test_annotations_that_are_kept_as_strings_are_read() -> None:
    def later(*, depth: "Annotated[int, Range(least=1)]" = 2) -> None: ...

    option = signature_options(later)["depth"]
    with pytest.raises(ValueError, match="mine: depth must be an integer >= 1, got 0"):
        check_option("mine", option, 0)


@pytest.mark.parametrize(
    "annotation, right, wrong",
    [
        (int, [0, -3], [1.0, True, "1", None]),
        (float, [1, 1.5], [True, "1", None]),
        (bool, [True, False], [0, 1, "true"]),
        (str, ["", "a"], [1, None]),
        (Annotated[float, Range(above=0)], [1e-9, 3], [0, -1, float("inf"), float("nan"), "1"]),
        (Annotated[int, Range(least=2, most=7)], [2, 7], [1, 8, 2.0]),
        (Literal["relu", 1], ["relu", 1], ["Relu", True, 1.0, 2]),
        (Annotated[int, Range(least=1)] | None, [None, 1], [0, "None"]),
        (tuple[Annotated[int, Range(least=1)], ...], [(1, 2), [1], ()], [(0,), 1, (1.5,), "12"]),
        (Annotated[float, Range(least=0, most=1)] | Literal["learned"], [0, 0.5, "learned"], [2, "learnt"]),
        (Any, [1, "a", None], []),
    ],
)
def test_values_that_fit_and_values_that_do_not(annotation: Any, right: list, wrong: list) -> None:
    assert all(accepts(annotation, value) for value in right)
    assert not any(accepts(annotation, value) for value in wrong)


@pytest.mark.parametrize(
    "annotation, words",
    [
        (Annotated[float, Range(above=0)], "a number > 0"),
        (Annotated[int, Range(least=2, most=7)], "an integer >= 2 and <= 7"),
        (Annotated[float, Range()], "a number finite"),
        (Literal["relu", "shift", "error"], "'relu', 'shift' or 'error'"),
        (Literal[2], "2"),
        (int | None, "an integer or none"),
        (bool, "true or false"),
        (tuple[int, ...], "a list of an integer"),
    ],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


@pytest.mark.parametrize("error, value", [(ValueError, 0), (ValueError, -2.0), (TypeError, "2"), (TypeError, None)])
def test_a_wrong_value_is_a_value_error_and_a_wrong_type_a_type_error(error: type[Exception], value: Any) -> None:
    option = signature_options(operator)["beta"]
    with pytest.raises(error, match=f"mine: beta must be a number > 0, got {value!r}"):
        check_option("mine", option, value)


def test_an_unlisted_choice_is_a_value_error() -> None:
    option = signature_options(operator)["mode"]
    with pytest.raises(ValueError, match="mine: mode must be 'relu' or 'shift', got 'rely'"):
        check_option("mine", option, "rely")
    with pytest.raises(TypeError, match="got 3"):
        check_option("mine", option, 3)


def test_names_are_answered_with_the_nearest() -> None:
    check_names("mine", ["beta"], ["beta", "mode"])
    with pytest.raises(TypeError, match=r"mine: no option 'bta'; did you mean 'beta'\? \(its options: beta, mode\)"):
        check_names("mine", ["beta", "bta"], ["beta", "mode"])
    with pytest.raises(TypeError, match=r"mine: no option 'strde'; did you mean 'stride'\? \(it has no options\)"):
        check_names("mine", ["strde"], [], others=["stride"])
    with pytest.raises(TypeError, match=r"mine: no option 'zzz' \(its options: beta\)"):
        check_names("mine", ["zzz"], ["beta"])


def test_did_you_mean_says_nothing_where_nothing_is_near() -> None:
    assert did_you_mean("stochastc", ["stochastic", "soft"]) == "; did you mean 'stochastic'?"
    assert did_you_mean("xyz", ["stochastic", "soft"]) == ""
