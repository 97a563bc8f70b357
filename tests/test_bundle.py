"""A network loaded from its bundle predicts what it did in its run, from pictures and from recordings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import FRAMES, PATH, RECORDINGS, write_bundle
from data_files import PIXELS, make_recording, write_recording, write_recordings
from PIL import Image

import launch
import snn
from snn.bundle.inputs import prepare
from snn.bundle.trained import TrainedNetwork
from snn.data.camera.frames import to_network_input
from snn.data.camera.load import load_events
from snn.data.images import normalise_images
from snn.engines.dense import DenseNetwork
from snn.engines.trie import evaluate_architectures
from snn.model.network import predictions
from snn.model.spikes import record_spikes


@pytest.fixture
def pictures(tmp_path: Path) -> TrainedNetwork:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def recordings(tmp_path: Path) -> TrainedNetwork:
    return write_bundle(tmp_path / "bundle", events=True)


@pytest.mark.parametrize("events", [False, True])
def test_predictions_are_those_of_the_network(tmp_path: Path, events: bool) -> None:
    trained = write_bundle(tmp_path / "bundle", events=events)
    samples: Any = RECORDINGS if events else PIXELS
    inputs = prepare(trained.description, samples)
    predicted = trained.predict(samples)
    with torch.inference_mode(), record_spikes(trained.network) as record:
        votes = trained.network(inputs, PATH)
    assert predicted.votes.std(0).all() and predicted.spikes.std() > 0, "samples differ"
    assert predicted.classes.tolist() == predictions(votes).tolist()
    assert predicted.spikes == pytest.approx(record.per_sample().numpy(), rel=2e-3, abs=1)
    labels = torch.from_numpy(predicted.classes)
    [whole] = evaluate_architectures(trained.network, [PATH], [(inputs, labels)])
    assert whole.accuracy == 1 and predicted.votes.argmax(1).tolist() == predicted.classes.tolist()
    assert predicted.spikes.mean() == pytest.approx(whole.spikes, rel=1e-12)
    assert predicted.synops.mean() == whole.synops and predicted.macs.mean() == whole.macs
    assert {name: it.mean() for name, it in predicted.spikes_per_layer.items()} == whole.spikes_per_layer


@pytest.mark.parametrize("events", [False, True])
def test_dense_predictions_count_the_same_for_each_sample(tmp_path: Path, events: bool) -> None:
    trained = write_bundle(tmp_path / "bundle", events=events)
    samples: Any = RECORDINGS if events else PIXELS
    event_driven = trained.predict(samples)
    trained.engine = DenseNetwork(trained.network)
    dense = trained.predict(samples)
    assert dense.classes.tolist() == event_driven.classes.tolist()
    assert dense.spikes == pytest.approx(event_driven.spikes, rel=2e-3, abs=1)
    assert dense.synops == pytest.approx(event_driven.synops, rel=4e-3)
    assert dense.macs.tolist() == event_driven.macs.tolist()


def test_pictures_are_files_arrays_or_images(pictures: TrainedNetwork, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.fromarray(PIXELS[0]).save(file)
    votes = pictures.predict(PIXELS[:1]).votes.tolist()
    for same in (file, str(file), [file], PIXELS[0], Image.open(file), [PIXELS[0]]):
        assert pictures.predict(same).votes.tolist() == votes
    images = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy())
    expected = normalise_images(images, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert torch.equal(prepare(pictures.description, PIXELS), expected)
    assert pictures.predict([file, PIXELS[1]]).names == pictures.predict(PIXELS[:2]).names


def test_pictures_of_another_size_are_fitted_and_grey_ones_coloured(pictures: TrainedNetwork) -> None:
    one_colour = np.full((50, 200, 3), 77, np.uint8)
    fitted = prepare(pictures.description, one_colour)
    assert torch.equal(fitted, prepare(pictures.description, np.full((32, 32, 3), 77, np.uint8)))
    assert torch.equal(fitted, prepare(pictures.description, np.full((32, 32), 77, np.uint8)))


def test_recording_yields_a_sample_for_each_window(recordings: TrainedNetwork, tmp_path: Path) -> None:
    write_recordings(tmp_path / "data", train=2, test=1, n=500)
    file = tmp_path / "data/test/left/0.npy"
    stored = load_events("recordings", "test", root=tmp_path / "data", settings=FRAMES, sensor_size=(32, 32))
    assert stored.sensor_size == (32, 32)
    windows = stored.samples[stored.labels == 0]
    assert len(windows) == 2
    expected = to_network_input(torch.from_numpy(windows.copy()), "count")
    assert torch.equal(prepare(recordings.description, file), expected)
    assert len(recordings.predict([file, file])) == 4
    votes = recordings.predict(file).votes.tolist()
    assert recordings.predict(np.load(file)).votes.tolist() == votes


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ("nothing.png", FileNotFoundError, "There is no picture 'nothing.png'"),
        ([], ValueError, "at least one picture or recording"),
        (np.zeros((3, 32, 32), np.uint8), ValueError, r"uint8 \[H, W\] or \[H, W, 3\] .* \[3, 32, 32\]"),
        (np.zeros((32, 32, 3)), ValueError, "float64"),
        (__file__, ValueError, "The picture '.*test_bundle.py' cannot be read"),
    ],
)
def test_what_is_no_picture_is_said(
    pictures: TrainedNetwork, samples: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pictures.predict(samples)


def test_what_is_no_recording_of_the_sensor_is_said(recordings: TrainedNetwork, tmp_path: Path) -> None:
    outside = make_recording(0, side=40)
    with pytest.raises(ValueError, match="of a sensor of 32 x 32 pixels, got events beyond it"):
        recordings.predict(outside)
    with pytest.raises(ValueError, match="shorter than 4 ms"):
        recordings.predict(make_recording(0, duration=3000))
    with pytest.raises(ValueError, match="fields x, y, t"):
        recordings.predict(PIXELS[0])
    write_recording(tmp_path / "empty.npy", make_recording(0, n=0))
    with pytest.raises(ValueError, match=r"empty.npy.* got no events"):
        recordings.predict(tmp_path / "empty.npy")


def test_damaged_bundle_is_refused(pictures: TrainedNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with pytest.raises(FileNotFoundError, match=r"is no trained network: it has no file network\.json"):
        snn.load(tmp_path)
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(weights[:-1] + b"x")
    with pytest.raises(ValueError, match=r"weights\.safetensors' is damaged"):
        snn.load(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no file weights\.safetensors"):
        snn.load(folder)
    text = (folder / "network.json").read_text()
    for old, new, message in (
        ('"format": 1', '"format": 2', "format is 2, but this version reads 1"),
        ('"time_steps": 3', '"time_steps": "3"', "time_steps must be a whole number"),
        ("SRB_k5", "SRB_k9", "Unknown block 'SRB_k9'"),
        ('"mean": [0.5, ', '"mean": [', "must have 3 numbers"),
        ("{", "", "damaged"),
    ):
        (folder / "network.json").write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            snn.load(folder)


def test_weights_of_another_network_are_refused(pictures: TrainedNetwork, tmp_path: Path) -> None:
    structure = dataclasses.replace(pictures.description.structure, channels=8)
    with pytest.raises(ValueError, match=r"bundle' is no complete bundle. The weights are not those"):
        write_bundle(tmp_path / "bundle", structure=structure)


def test_predict_command_goes_on_after_a_file_that_it_cannot_read(
    pictures: TrainedNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for i in (0, 2):
        Image.fromarray(PIXELS[i]).save(files[i])
    plot = tmp_path / "spikes.html"
    command = ["predict", str(tmp_path / "bundle"), *map(str, files), "--plot", str(plot)]
    assert launch.main(command) == 2
    out, err = capsys.readouterr()
    lines = out.splitlines()
    for i in (0, 2):
        predicted = pictures.predict(files[i])
        assert f"{predicted.spikes[0]:,} spikes" in lines[i] and predicted.names[0] in lines[i]
    assert f"There is no picture '{files[1]}'" in lines[1]
    assert "1 of 3 files could not be read" in err
    assert "2.png" in plot.read_text() and "1.png" not in plot.read_text()


@pytest.mark.parametrize("events", [False, True])
def test_spikes_over_time_are_those_of_the_prediction(tmp_path: Path, events: bool) -> None:
    trained = write_bundle(tmp_path / "bundle", events=events)
    sample = RECORDINGS[0] if events else PIXELS[0]
    predicted = trained.predict(sample)
    rates, counts = trained.spikes_over_time(sample)
    for layer, spikes in predicted.spikes_per_layer.items():
        assert counts[layer].sum() == pytest.approx(spikes.mean(), rel=5e-3, abs=1), layer
        assert counts[layer].shape == (3,) and 0 <= rates[layer].min() <= rates[layer].max() <= 1
