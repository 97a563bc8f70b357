"""Names the classes of pictures or recordings with a trained network, and draws its spikes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pipeline.console import say
from pipeline.formats import count, large, percent
from snn.bundle.trained import Prediction, TrainedNetwork, load
from snn.model.network import VOTERS_PER_CLASS

COUNTED = "spikes: every binary output of a neuron or max-pool, over all time steps; means over windows"


def predict_files(location: str, files: Sequence[Path], plot: Path | None = None) -> None:
    """Predicts each file and says its class, votes, spikes and operations; a file that cannot be read, too.

    Args:
        location: The network's folder or URI.
        files: Pictures or recordings, as the network was trained on.
        plot: HTML page that gets a chart of the spikes of each file; None for none.

    Raises:
        FileNotFoundError: There is no such network.
        ValueError: Some files cannot be read, which has been said of each; all others are predicted.
    """
    network = load(location)
    width = max(len(str(file)) for file in files)
    readable = []
    for file in files:
        try:
            outcome = _outcome(network, network.predict(file))
            readable.append(file)
        except (OSError, ValueError) as error:
            outcome = str(error)
        say(f"{file!s:<{width}}  {outcome}")
    if readable:
        say(COUNTED)
    if plot is not None and readable:
        plot.write_text(spike_chart(network, readable).to_html(include_plotlyjs=True))
        say(f"spikes per layer and time step: {plot}")
    if len(readable) < len(files):
        raise ValueError(f"{len(files) - len(readable)} of {len(files)} files could not be read.")


def _outcome(network: TrainedNetwork, prediction: Prediction) -> str:
    """The class with most votes over all windows, its share and the next one's, and what a window took."""
    votes = prediction.votes.sum(0)
    first, second = (-votes).argsort(kind="stable")[:2]
    most = VOTERS_PER_CLASS * network.description.structure.time_steps * len(prediction)
    one, other = (prediction.class_names[i] for i in (first, second))
    share, next_share = percent(votes[first] / most), percent(votes[second] / most)
    decided = f"{one} ({share} of its votes; {other} {next_share})"
    if votes[first] == votes[second]:
        decided = f"undecided ({one} and {other} have {share} of their votes)"
    windows = "" if len(prediction) == 1 else f"{len(prediction)} windows, "
    return (
        f"{decided}: {windows}{count(prediction.spikes.mean())} spikes, "
        f"{large(prediction.synops.mean())} synaptic operations, "
        f"{large(prediction.macs.mean())} multiply-accumulates"
    )


def spike_chart(network: TrainedNetwork, files: Sequence[Path]) -> go.Figure:
    """For each file, how many of a layer's neurons fire at each time step; a recording's windows averaged."""
    figure = make_subplots(len(files), 1, subplot_titles=[str(file) for file in files])
    for row, file in enumerate(files, 1):
        rates, counts = network.spikes_over_time(file)
        figure.add_heatmap(
            z=[100 * rate for rate in rates.values()],
            x=[*range(1, network.description.structure.time_steps + 1)],
            y=[*rates],
            text=[[count(number) for number in of_layer] for of_layer in counts.values()],
            texttemplate="%{text}",
            hovertemplate="%{y}, step %{x}: %{text} spikes, %{z:.1f} % of its neurons<extra></extra>",
            coloraxis="coloraxis",
            row=row,
            col=1,
        )
    figure.update_xaxes(title_text="time step", dtick=1)
    figure.update_yaxes(autorange="reversed")  # from the input down to the votes
    figure.update_layout(
        template="plotly_white",
        title=f"Spikes of '{network.description.name}' per layer and time step",
        height=140 + 380 * len(files),
        coloraxis={"colorscale": "Blues", "cmin": 0, "colorbar": {"title": "% of the<br>neurons fire"}},
    )
    return figure
