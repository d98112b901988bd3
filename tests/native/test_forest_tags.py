"""Tags as numbers, in compiled code."""

import zlib

import numpy as np
import pytest

from streammeta.native import _kernels as kernels


def test_tags_have_zlibs_checksums_as_numbers() -> None:
    tags = ["", "a", "task-7", "日本", "🙂" * 40, "x" * 10_000, "a\0b"]
    found = np.empty(len(tags), np.float32)

    kernels.number_tags(tags, found)

    np.testing.assert_array_equal(found, np.array([zlib.crc32(tag.encode()) / 2.0**32 for tag in tags], np.float32))


def test_what_is_no_text_and_an_array_that_does_not_fit_are_refused() -> None:
    with pytest.raises(TypeError):
        kernels.number_tags([1], np.empty(1, np.float32))  # type: ignore[list-item]
    with pytest.raises(UnicodeEncodeError):
        kernels.number_tags(["\ud800"], np.empty(1, np.float32))
    with pytest.raises(ValueError, match="a place for each tag"):
        kernels.number_tags(["a"], np.empty(2, np.float32))
