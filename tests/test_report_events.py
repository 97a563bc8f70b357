"""The report shows what is special of event data and of time, where a run has it and only there."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import (
    EVENTS_PER_SAMPLE,
    SIMULATED,
    add_time_courses,
    event_run,
    finished_run,
    store_examples,
    time_course,
)

from pipeline.report.frames import GROUND_COLOUR, frames_picture, mixed_colour
from pipeline.report.join import write_report
from pipeline.storage.names import ENVIRONMENT as ENVIRONMENT_FILE
from pipeline.storage.names import EVENT_EXAMPLES, REPORT_HTML, REPORT_JSON
from pipeline.storage.run_folder import RunFolder
from snn.json_values import to_json

CORRUPT = "2 of 70 recordings could not be read and were left out: seven/a.bin, nine/b.bin."


def test_event_run_shows_recordings_and_time(tmp_path: Path) -> None:
    page = page_of(event_run(tmp_path / "run"))
    assert "<h2>The recordings</h2>" in page and "<h2>Over time</h2>" in page
    assert page.count('src="data:image/png;base64,') == 10
    assert "3,902" in page and "8,123" in page
    assert "Shown are" not in page
    assert "per image" not in page and " images" not in page


def test_image_run_shows_neither(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    report, page = write_report(run), page_of(run)
    assert report.events is None
    assert all(network.time_course is None for network in report.retrained)
    assert "The recordings" not in page and "Over time" not in page and "data:image" not in page
    assert "per image" in page and "per sample" not in page


def test_image_run_with_time_course_shows_it(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    add_time_courses(run, num_steps=2)
    page = page_of(run)
    assert "Over time" in page and "The recordings" not in page


def test_report_json_holds_events_and_time_courses_but_no_frames(tmp_path: Path) -> None:
    run = event_run(tmp_path / "run")
    report = write_report(run)
    assert json.loads((run.path / REPORT_JSON).read_text(encoding="utf-8")) == to_json(report)
    assert report.events.splits["test"].events_per_sample == EVENTS_PER_SAMPLE
    assert report.events.splits["test"].notes == (SIMULATED,)
    assert tuple(report.retrained[0].time_course.accuracy) == time_course(4).accuracy
    assert "base64" not in (run.path / REPORT_JSON).read_text(encoding="utf-8")
    assert "event_examples.npz" in report.provenance.files


def test_simulated_data_are_called_so_in_the_headline(tmp_path: Path) -> None:
    head = page_of(event_run(tmp_path / "run")).split("</header>")[0]
    assert "Simulated data." in head
    assert "The events are SIMULATED by &lt;a model&gt;" in head and "<a model>" not in head


def test_recorded_data_are_not_called_simulated(tmp_path: Path) -> None:
    run = event_run(tmp_path / "run", notes=(CORRUPT,))
    page = page_of(run)
    assert "imulated data" not in page
    assert page.count(CORRUPT) == 1 and "All splits:" in page


def test_a_note_of_some_splits_names_them(tmp_path: Path) -> None:
    run = event_run(tmp_path / "run", train_notes=(CORRUPT,))
    assert f"<b>train, val:</b> {CORRUPT}" in page_of(run)


@pytest.mark.parametrize("shape", [(4, 2, 34, 34), (20, 2, 128, 128), (20, 2, 180, 240), (1, 2, 3, 5)])
def test_page_stays_small_whatever_the_sensor(tmp_path: Path, shape: tuple[int, ...]) -> None:
    run = event_run(tmp_path / "run")
    noise = np.random.default_rng(0).integers(0, 256, (101, *shape), np.uint8)
    store_examples(run, noise, [f"class <{i}>" for i in range(101)])
    page = page_of(run)
    assert (run.path / REPORT_HTML).stat().st_size < 6_000_000
    assert page.count("data:image/png") == 12
    assert "the first 12 of 101 classes" in page and "class &lt;11&gt;" in page
    assert ("8 of 20 time steps" in page) == (shape[0] == 20)


def test_event_run_without_examples_or_environment_still_comes(tmp_path: Path) -> None:
    run = event_run(tmp_path / "run")
    (run.path / EVENT_EXAMPLES).unlink()
    (run.path / ENVIRONMENT_FILE).unlink()
    page = page_of(run)
    assert "no frames to show" in page and "Events per sample were not recorded" in page


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"no archive"])
def test_damaged_examples_are_named(tmp_path: Path, content: bytes) -> None:
    run = event_run(tmp_path / "run")
    (run.path / EVENT_EXAMPLES).write_bytes(content)
    with pytest.raises(ValueError, match=r"event_examples\.npz' is damaged"):
        write_report(run)


def test_picture_colours_off_on_and_both() -> None:
    frames = np.zeros((2, 2, 4, 6), np.uint8)
    frames[0, 0, 1, 2] = frames[0, 1, 0, 5] = 1
    frames[1, :, 3, 0] = 1
    picture = np.array(frames_picture(frames).convert("RGB"))
    assert picture.shape == (6, 16, 3)  # a margin of 1 pixel around each frame
    assert tuple(picture[2, 3]) == mixed_colour(1, 0)
    assert tuple(picture[1, 6]) == mixed_colour(0, 1)
    assert tuple(picture[4, 9]) == mixed_colour(1, 1)
    assert tuple(picture[0, 0]) == (255, 255, 255)
    ground = tuple(int(GROUND_COLOUR[i : i + 2], 16) for i in (1, 3, 5))
    assert (picture == ground).all(2).sum() == 2 * 4 * 6 - 3


def test_embedded_pictures_open(tmp_path: Path) -> None:
    page = page_of(event_run(tmp_path / "run"))
    for address in page.split("data:image/png;base64,")[1:]:
        with Image.open(io.BytesIO(base64.b64decode(address.split('"')[0]))) as picture:
            assert picture.size == (4 * 36, 36)


def test_wall_time_of_networks_side_by_side_is_said_to_be_added_up(tmp_path: Path) -> None:
    several, one = finished_run(tmp_path / "several"), event_run(tmp_path / "one", num_networks=1)
    assert page_of(several).count("<small>added up</small>") == 2
    assert "added up over 6 networks" in page_of(several)
    assert page_of(one).count("<small>added up</small>") == 1


def page_of(run: RunFolder) -> str:
    """The page without plotly.js, which comes between the first <script> and its end."""
    write_report(run)
    page = (run.path / REPORT_HTML).read_text(encoding="utf-8")
    return page[page.index("<body>") :]
