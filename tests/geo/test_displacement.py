import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from geo.displacement import Displacement, Field, basis, evaluate, fit_affine, fit_field, fit_shift

BOUNDS = (1000.0, 5000.0, 3000.0, 6500.0)


def made_field(seed, rows=4, cols=6, size=5.0):
    return Field(BOUNDS, np.random.default_rng(seed).normal(scale=size, size=(2, rows + 3, cols + 3)))


@given(cells=st.integers(1, 9), at=st.lists(st.floats(-2, 12), min_size=1, max_size=20))
def test_splines_sum_to_one_wherever(cells, at):
    values = basis(np.array(at), 0.0, 10.0, cells)
    assert values.shape == (len(at), cells + 3)
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-12)
    assert (values >= -1e-15).all()


def test_splines_are_scipys():
    """Independent: the same basis by de Boor's recursion on a uniform knot vector."""
    cells, at = 5, np.linspace(0, 9.999, 57)
    knots = (np.arange(cells + 7) - 3) * 2.0
    theirs = BSpline.design_matrix(at, knots, 3).toarray()
    np.testing.assert_allclose(basis(at, 0.0, 10.0, cells), theirs, atol=1e-12)


def test_a_grid_is_the_same_as_its_points():
    field = made_field(1)
    x, y = np.linspace(900, 3100, 23)[None], np.linspace(4900, 6600, 17)[:, None]
    on_grid = field(x, y)
    at_points = field(*np.broadcast_arrays(x, y))
    for a, b in zip(on_grid, at_points, strict=True):
        assert a.shape == (17, 23)
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_a_single_point():
    displacement = Displacement((2000.0, 6000.0), np.array([[1.0, 0.1, 0.0], [2.0, 0.0, -0.5]]), made_field(2))
    dx, dy = displacement(2010.0, 6004.0)
    more_x, more_y = displacement.field(np.array([2010.0]), np.array([6004.0]))
    np.testing.assert_allclose([float(dx), float(dy)], [2.0 + more_x[0], 0.0 + more_y[0]])


def test_beyond_its_edges_a_field_stays_as_it_is_there():
    field = made_field(3)
    inside, outside = field(np.array([1000.0]), np.array([5500.0])), field(np.array([-9e5]), np.array([5500.0]))
    np.testing.assert_allclose(inside, outside)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), steep=st.floats(0, 0.01))
def test_there_and_back_is_the_same_point(seed, steep):
    rng = np.random.default_rng(seed)
    affine = np.column_stack([rng.uniform(-90, 90, 2), rng.uniform(-steep, steep, (2, 2))])
    displacement = Displacement((2000.0, 5700.0), affine, made_field(seed))
    x, y = rng.uniform(1000, 3000, 50), rng.uniform(5000, 6500, 50)
    dx, dy = displacement(x, y)
    back = displacement.inverse(x + dx, y + dy)
    np.testing.assert_allclose(back, [x, y], atol=1e-3)


def test_names_of_the_models():
    shift = fit_shift(np.array([[1.0, 2.0], [4.0, 8.0]]), np.array([2.0, 1.0]), (0.0, 0.0))
    assert shift.model == "shift"
    np.testing.assert_allclose(shift.coefficients[:, 0], [2.0, 4.0])
    assert shift.moved(np.array([1.0, -1.0]))(5.0, 5.0) == (3.0, 3.0)
    assert Displacement((0, 0), np.array([[0, 1e-5, 0], [0, 0, 0]])).model == "affine"
    assert Displacement((0, 0), np.zeros((2, 3)), made_field(0)).model == "local"


def test_affine_through_vectors():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1000, 3000, 30), rng.uniform(5000, 6500, 30)
    true = np.array([[4.0, 1e-3, -2e-3], [-3.0, 5e-4, 1e-3]])
    vectors = np.column_stack(evaluate(true, (2000.0, 6000.0), x, y))
    found = fit_affine(x, y, vectors, rng.uniform(0.1, 1, 30), (2000.0, 6000.0))
    np.testing.assert_allclose(found.coefficients, true, atol=1e-9)


def test_a_field_follows_a_wave_and_a_stiff_one_does_not():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1000, 3000, 400), rng.uniform(5000, 6500, 400)
    wave = np.column_stack([3 * np.sin(x / 300), 2 * np.cos(y / 250)])
    trust = np.ones(400)
    followed = fit_field(x, y, wave, trust, BOUNDS, (10, 12), 1e-3)
    np.testing.assert_allclose(np.column_stack(followed(x, y)), wave, atol=0.15)
    stiff = fit_field(x, y, wave, trust, BOUNDS, (10, 12), 1e9)
    grid = np.column_stack(stiff(np.linspace(1100, 2900, 9), np.full(9, 5500.0)))
    np.testing.assert_allclose(np.diff(grid, 2, axis=0), 0, atol=1e-4)
