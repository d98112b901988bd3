"""The HTML report in a real browser: light and dark, on a phone, with a thousand tasks, and without a network."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import streammeta
from streammeta.review.notebook import Review

Browse = Callable[..., str]
LARGEST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def review() -> Review:
    """A thousand tasks, some of whose concepts change, beside a rival."""
    options = {"tasks": 1000, "concept_events": 4, "popularity": 0.5}
    return streammeta.replay(
        "shared-representation",
        limit=6_000,
        seed=1,
        options=options,
        against=["river:tree.HoeffdingTreeClassifier", "river:linear_model.LogisticRegression"],
    )


@pytest.fixture(scope="module")
def page(review: Review, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return review.html(tmp_path_factory.mktemp("report") / "report.html")


def test_the_report_is_small_and_fetches_nothing(page: Path, review: Review) -> None:
    """It goes by mail, and is opened on a train."""
    text = page.read_text("utf-8")

    assert review.figures["tasks"] > 900
    assert page.stat().st_size < LARGEST_BYTES
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=\"(?!#)", text)
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_it_opens_within_a_second(page: Path, browse: Browse, tmp_path: Path) -> None:
    """Long reports that nobody waits for are not read. (A tenth of that on an idle machine.)"""
    timed = tmp_path / "timed.html"
    script = "<script>onload = () => document.documentElement.dataset.opened = Math.ceil(performance.now())</script>"
    timed.write_text(page.read_text("utf-8").replace("</body>", f"{script}</body>"), "utf-8")

    opened = [int(re.findall(r'data-opened="(\d+)"', browse(timed, "--dump-dom"))[0]) for _ in range(3)]

    assert min(opened) < 1000


def test_every_picture_and_learner_is_there(page: Path, browse: Browse) -> None:
    """As the browser reads the page, not as we wrote it."""
    seen = browse(page, "--dump-dom")

    assert set(re.findall(r'<figure id="(\w+)"', seen)) >= {"error", "age", "drift", "calibration", "mixture", "speed"}
    table = seen[seen.index('<table id="learners"') : seen.index("</table>")]
    assert table.count("<tr>") == 4
    assert "failed after" in table
    assert 'id="detection"' in seen


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out_on_a_phone_or_a_desk(page: Path, browse: Browse, tmp_path: Path, width: int) -> None:
    """A page that has to be pushed sideways is not read on a phone; and no words of a picture may be too small there."""
    framed = tmp_path / "framed.html"
    source = html.escape(page.read_text("utf-8"), quote=True)
    script = """onload = () => {
      const inner = frame.contentDocument, root = inner.documentElement, svg = inner.querySelector("svg");
      const box = svg.viewBox.baseVal.width, shown = svg.getBoundingClientRect().width;
      const words = [...inner.querySelectorAll("h1, h2, p, caption")].map(one => one.getBoundingClientRect().right);
      document.body.dataset.result = [root.scrollWidth, root.clientWidth, 8 * shown / box, Math.max(...words)].join(" ");
    }"""
    framed.write_text(
        f'<body><iframe id="frame" style="width:{width}px;height:800px;border:0" srcdoc="{source}"></iframe>'
        f"<script>const frame = document.getElementById('frame'); {script}</script></body>",
        "utf-8",
    )

    scroll, client, text_pixels, words = map(
        float, re.findall(r'data-result="([^"]*)"', browse(framed, "--window-size=1400,900", "--dump-dom"))[0].split()
    )

    assert scroll <= client
    assert words <= client  # also above a wide table, which is pushed sideways alone
    assert text_pixels >= 7.5  # the smallest text of a picture, in CSS pixels


def test_it_is_light_on_light_screens_and_dark_on_dark_ones(page: Path, browse: Browse, tmp_path: Path) -> None:
    """And something is drawn on it in both."""
    shot = {}
    for name, options in {"light": [], "dark": ["--force-dark-mode"]}.items():
        file = tmp_path / f"{name}.png"
        browse(page, "--window-size=1200,1600", f"--screenshot={file}", *options)
        shot[name] = np.asarray(Image.open(file).convert("RGB"), np.float64)

    assert shot["light"].shape == shot["dark"].shape
    assert np.median(shot["light"]) > 200
    assert np.median(shot["dark"]) < 60
    for pixels in shot.values():
        colourful = pixels.max(2) - pixels.min(2) > 60  # curves, in the palette's colours
        assert colourful.sum() > 2000
