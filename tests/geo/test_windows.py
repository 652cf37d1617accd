import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window

from geo.windows import blend_weights, blocks, clip, grow, slices

shapes = st.tuples(st.integers(1, 90), st.integers(1, 90))


@st.composite
def size_and_overlap(draw, largest_share=1.0):
    size = draw(st.integers(2, 48))
    return size, draw(st.integers(0, int((size - 1) * largest_share)))


def counted(shape, windows):
    """How often each pixel of the scene lies in a window."""
    seen = np.zeros(shape, int)
    for window in windows:
        seen[slices(clip(window, shape))] += 1
    return seen


@given(shapes, st.integers(1, 100))
def test_blocks_hold_each_pixel_once(shape, size):
    assert (counted(shape, blocks(shape, size)) == 1).all()


def test_blocks_may_be_strips():
    assert list(blocks((5, 7), (2, 7))) == [Window(0, 0, 7, 2), Window(0, 2, 7, 2), Window(0, 4, 7, 1)]


@given(shapes, size_and_overlap(largest_share=0.5))
def test_blend_weights_of_neighbours_sum_to_one(shape, cut):
    size, overlap = cut
    total = np.zeros((3 * size, 3 * size))
    weights = blend_weights(size, overlap)
    step = size - overlap
    for row in range(0, 2 * size + 1, step):
        for col in range(0, 2 * size + 1, step):
            part = total[row : row + size, col : col + size]
            part += weights[: part.shape[0], : part.shape[1]]
    inside = slice(overlap, 2 * size)  # the first window has no neighbour before it
    np.testing.assert_allclose(total[inside, inside], 1, atol=1e-5)


@given(size_and_overlap())
def test_blend_weights_are_positive_symmetric_and_at_most_one(cut):
    weights = blend_weights(*cut)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_array_equal(weights, weights.T)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)


@given(shapes, st.integers(-40, 100), st.integers(-40, 100), st.integers(1, 60), st.integers(1, 60))
def test_crop_and_paste_is_identity(shape, row, col, height, width):
    scene = np.arange(shape[0] * shape[1]).reshape(shape)
    window = Window(col, row, width, height)
    inside = clip(window, shape)
    if not (inside.width and inside.height):
        return
    crop = np.full((height, width), -1)
    crop[slices(inside, window)] = scene[slices(inside)]
    pasted = np.full(shape, -1)
    pasted[slices(inside)] = crop[slices(inside, window)]
    expected = np.full(shape, -1)
    rows, cols = np.indices(shape)
    here = (rows >= row) & (rows < row + height) & (cols >= col) & (cols < col + width)
    expected[here] = scene[here]
    np.testing.assert_array_equal(pasted, expected)


def test_clip_outside_is_empty():
    away = clip(Window(30, 40, 5, 5), (10, 10))
    assert (away.width, away.height) == (0, 0)


@given(st.integers(0, 30))
def test_grow_adds_the_margin_on_each_side(margin):
    assert grow(Window(7, 9, 20, 10), margin) == Window(7 - margin, 9 - margin, 20 + 2 * margin, 10 + 2 * margin)
