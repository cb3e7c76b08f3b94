"""Each task of a foreach loads its own item, exactly as it was, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import DataMissing
from daskflow.store.items import load_item, save_items
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path


def saved(items: list[Any], folder: Path) -> tuple[dict[str, Any], LocalStorage]:
    storage = LocalStorage(str(folder))
    with storage.writer("items.pack") as file:
        stored = save_items(items, lambda suffix: file)
    return stored | ({} if "items" in stored else {"path": "items.pack"}), storage


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=4,
)


@given(st.lists(values, min_size=1, max_size=30))
def test_item_i_is_item_i(tmp_path_factory: pytest.TempPathFactory, items: list[Any]):
    stored, storage = saved(items, tmp_path_factory.mktemp("items"))

    for index, item in enumerate(items):
        found = load_item(stored, index, storage)
        assert found == item
        assert type(found) is type(item)


def test_items_may_be_anything_that_can_be_an_artifact(tmp_path: Path):
    items = [np.arange(300_000), pd.DataFrame({"a": [1]}), lambda x: x + 1, {"k": (1, 2)}, "\ud800"]
    stored, storage = saved(items, tmp_path)

    assert np.array_equal(load_item(stored, 0, storage), items[0])
    assert load_item(stored, 1, storage).equals(items[1])
    assert load_item(stored, 2, storage)(1) == 2
    assert load_item(stored, 3, storage) == items[3]
    assert load_item(stored, 4, storage) == items[4]


def test_few_small_items_stand_in_the_record(tmp_path: Path):
    stored, _ = saved([1, "two", None, True], tmp_path)

    assert stored == {"size": 4, "items": [1, "two", None, True]}


def test_a_damaged_pack_is_named(tmp_path: Path):
    stored, storage = saved([object()] * 3, tmp_path)
    (tmp_path / "items.pack").write_bytes(b"short")

    with pytest.raises(DataMissing, match=r"items\.pack"):
        load_item(stored, 1, storage)
    (tmp_path / "items.pack").unlink()
    with pytest.raises(DataMissing, match=r"items\.pack"):
        load_item(stored, 1, storage)
