"""The heart of the conformance suite again, in plain PyTorch, for the operators that otherwise run compiled."""

import pytest

import pooling
from pooling.dispatch import NATIVE_OPERATORS
from tests.pooling.test_conformance import (  # noqa: F401
    test_dtypes,
    test_empty_batch,
    test_every_layout_gives_the_same_values_and_is_kept,
    test_gradients_are_those_of_the_definition,
    test_second_gradients_are_those_of_the_definition,
    test_the_output_has_max_pool_s_size,
    test_values_are_those_of_the_numpy_definition,
)


@pytest.fixture(autouse=True)
def _in_plain_torch(request: pytest.FixtureRequest):
    if request.node.callspec.params["case"].name not in NATIVE_OPERATORS:
        pytest.skip("has no compiled operator: run already")
    with pooling.backend("composite"):
        yield
