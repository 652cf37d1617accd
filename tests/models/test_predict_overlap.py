"""Reading, the model and writing go on at the same time: each waits here until another has gone ahead."""

import threading
from contextlib import contextmanager

import pytest
from test_predict import Fake, ramp, write

from models.predict import kept, predict, rows, search
from models.predict.blending import Blender

#: Seconds after which nobody comes; only waited for where work is done one after the other.
_PATIENCE = 20


class Together:
    """Counts what was begun, and lets one kind of work wait until so much of another was."""

    def __init__(self, windows):
        self._windows, self._news = windows, threading.Condition()
        self._begun = dict.fromkeys(("read", "model", "blend"), 0)

    def begin(self, what):
        """Count a window; tell which it is."""
        with self._news:
            self._begun[what] += 1
            self._news.notify_all()
            return self._begun[what]

    def number(self, what):
        return self._begun[what]

    def wait_for(self, what, number):
        """Until the window of this number was begun elsewhere, as long as there is one."""
        with self._news:
            came = self._news.wait_for(lambda: self._begun[what] >= min(number, self._windows), _PATIENCE)
        assert came, f"no {what} of window {number} while another was worked on"


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "a.tif", ramp((150, 211)))


@contextmanager
def hooks(monkeypatch, together):
    """Let reading, blending and keeping count, and wait for the model."""
    read_tile, add, put = search.read_tile, Blender.add, kept._put

    def reading(*args):
        together.begin("read")
        return read_tile(*args)

    def blending(*args):
        number = together.begin("blend")
        together.wait_for("model", number + 1)
        together.wait_for("read", number + 2)
        return add(*args)

    def keeping(*args):
        together.wait_for("model", together.number("blend") + 1)
        put(*args)

    with monkeypatch.context() as patched:
        patched.setattr(search, "read_tile", reading)
        patched.setattr(Blender, "add", blending)
        patched.setattr(kept, "_put", keeping)
        yield


def test_reading_the_model_and_writing_go_on_at_the_same_time(tmp_path, image, monkeypatch):
    """While a window is blended or kept the next is in the model, and the one after it is read."""
    settings = {"overlap": 16, "batch": 1, "dtype": "float32", "block_rows": 40}
    plain = Fake()
    predict(image, plain, tmp_path / "p.tif", **settings)
    assert {shape[0] for shape in plain.calls} == {1}
    together = Together(len(plain.calls))

    def slow(values):
        together.wait_for("read", together.begin("model") + 1)
        return values[:, 0]

    with hooks(monkeypatch, together):
        predict(image, Fake(function=slow), tmp_path / "q.tif", **settings)
    assert {together.number(what) for what in ("read", "model", "blend")} == {len(plain.calls)}
    assert (tmp_path / "q.tif").read_bytes() == (tmp_path / "p.tif").read_bytes()


@pytest.mark.parametrize("serial", [search, rows])
def test_work_that_is_done_in_turn_is_found_out(tmp_path, image, monkeypatch, serial):
    """The test above would fail."""
    monkeypatch.setattr(f"{__name__}._PATIENCE", 0.2)
    monkeypatch.setattr(serial, "stream", _in_turn)
    with pytest.raises(AssertionError, match="while another was worked on"):
        test_reading_the_model_and_writing_go_on_at_the_same_time(tmp_path, image, monkeypatch)


def _in_turn(compute, items, **_):
    for item in items:
        yield item, compute(item)
