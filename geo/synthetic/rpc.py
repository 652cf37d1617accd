"""RPC00B: two ratios of cubic polynomials fitted to a camera, and the text file they are delivered in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.synthetic.camera import Pushbroom


@dataclass(frozen=True)
class Rpc:
    """Offsets, scales and coefficients of RPC00B; (0, 0) is the centre of the first pixel."""

    line_offset: float
    samp_offset: float
    lat_offset: float
    long_offset: float
    height_offset: float
    line_scale: float
    samp_scale: float
    lat_scale: float
    long_scale: float
    height_scale: float
    line_num: np.ndarray
    line_den: np.ndarray
    samp_num: np.ndarray
    samp_den: np.ndarray

    def project(self, lon: np.ndarray, lat: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Line and sample of ground points (degrees, metres above WGS 84)."""
        terms = _terms(
            (np.asarray(lat) - self.lat_offset) / self.lat_scale,
            (np.asarray(lon) - self.long_offset) / self.long_scale,
            (np.asarray(height) - self.height_offset) / self.height_scale,
        )
        line = (terms @ self.line_num) / (terms @ self.line_den)
        samp = (terms @ self.samp_num) / (terms @ self.samp_den)
        return line * self.line_scale + self.line_offset, samp * self.samp_scale + self.samp_offset

    def text(self) -> str:
        """Content of the ``.rpb`` file, in the form of delivered GF-1 products."""
        head = ['satId = "XXX";', 'bandId = "XXX";', 'SpecId = "XXX";', "BEGIN_GROUP = IMAGE"]
        head += ["\terrBias =   1.0;", "\terrRand =    0.0;"]
        values = {
            "lineOffset": self.line_offset, "sampOffset": self.samp_offset, "latOffset": self.lat_offset,
            "longOffset": self.long_offset, "heightOffset": self.height_offset, "lineScale": self.line_scale,
            "sampScale": self.samp_scale, "latScale": self.lat_scale, "longScale": self.long_scale,
            "heightScale": self.height_scale,
        }  # fmt: skip
        lines = head + [f"\t{name} = {value:.15f};" for name, value in values.items()]
        tables = {
            "lineNumCoef": self.line_num, "lineDenCoef": self.line_den,
            "sampNumCoef": self.samp_num, "sampDenCoef": self.samp_den,
        }  # fmt: skip
        for name, table in tables.items():
            numbers = [f"\t\t\t{value:+.15E}" for value in table]
            lines += [f"\t{name} = (", *(f"{n}," for n in numbers[:-1]), f"{numbers[-1]});"]
        return "\n".join([*lines, "END_GROUP = IMAGE", "END;"]) + "\n"


def _terms(lat: np.ndarray, lon: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Stack the 20 monomials in RPC00B's order along the last axis."""
    p, l, h = lat, lon, height  # noqa: E741 (names of the specification)
    one = np.ones_like(p)
    return np.stack(
        [one, l, p, h, l * p, l * h, p * h, l * l, p * p, h * h,
         p * l * h, l**3, l * p * p, l * h * h, l * l * p, p**3, p * h * h, l * l * h, p * p * h, h**3],
        axis=-1,
    )  # fmt: skip


def fit_rpc(camera: Pushbroom, *, heights: tuple[float, float], ridge: float = 1e-9) -> Rpc:
    """RPC of a camera, by regularised least squares on a three-dimensional grid of points.

    A scene of a few kilometres leaves most of the 78 coefficients undetermined: the ridge keeps them small
    (Tao & Hu 2001, Photogramm. Eng. Remote Sens. 67(12): 1347, eq. 20). The camera's detector offset is not
    in it: as with real products, the RPC does not know it.

    Parameters
    ----------
    camera : Pushbroom
    heights : (low, high)
        Range of heights that the RPC must serve, metres above WGS 84.
    ridge : float
        Weight of the squared coefficients relative to the number of points.

    Returns
    -------
    Rpc
    """
    nominal = camera.shifted((0.0, 0.0))
    lines, samples = camera.shape
    # a little beyond the image, so that its edges are interpolated too
    grid = np.meshgrid(
        np.linspace(-0.06 * lines, 1.06 * lines, 11),
        np.linspace(-0.06 * samples, 1.06 * samples, 11),
        np.linspace(*heights, 7),
        indexing="ij",
    )
    line, samp, height = (axis.ravel() for axis in grid)
    lon, lat = nominal.ground(line, samp, height)

    def centre(v: np.ndarray) -> tuple[float, float]:
        return float((v.min() + v.max()) / 2), float((v.max() - v.min()) / 2)

    (lat0, lat1), (lon0, lon1), (h0, h1) = centre(lat), centre(lon), centre(height)
    (line0, line1), (samp0, samp1) = centre(line), centre(samp)
    terms = _terms((lat - lat0) / lat1, (lon - lon0) / lon1, (height - h0) / h1)
    line_num, line_den = _ratio(terms, (line - line0) / line1, ridge)
    samp_num, samp_den = _ratio(terms, (samp - samp0) / samp1, ridge)
    return Rpc(
        line0, samp0, lat0, lon0, h0, line1, samp1, lat1, lon1, h1, line_num, line_den, samp_num, samp_den
    )  # fmt: skip


def _ratio(terms: np.ndarray, target: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of num/den = target with den's constant 1; reweighted by the denominator."""
    weight = np.ones(len(target))
    for _ in range(3):
        design = np.hstack([terms, -target[:, None] * terms[:, 1:]]) * weight[:, None]
        normal = design.T @ design + ridge * len(target) * np.eye(39)
        solution = np.linalg.solve(normal, design.T @ (target * weight))
        num, den = solution[:20], np.concatenate([[1.0], solution[20:]])
        weight = 1 / np.abs(terms @ den)
    return num, den
