"""The rules that every mapping of text and every store of sessions keeps; a new one subclasses them."""

import pytest

pytest.register_assert_rewrite("tests.contract.mapping", "tests.contract.store", "tests.contract.four_methods")
