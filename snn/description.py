"""What a bundle says of its network (network.json): all that is needed to use it, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

from snn.options import EventValues, FrameSettings, NeuronName
from snn.search_space import Architecture, BackboneName, StemName

DESCRIPTION = "network.json"
WEIGHTS = "weights.safetensors"
CARD = "README.md"
FORMAT = 1


@dataclass(frozen=True)
class Structure:
    """The network beside its weights.

    Attributes:
        backbone: Macro-architecture.
        architecture: Block of each searched layer.
        channels: C, output channels of the stem.
        stem: How the input is brought to the body's resolution.
        input_shape: (C, H, W) of an image or of an event frame.
        time_steps: T.
        neuron: Spiking neuron model.
        v_threshold: Membrane potential at which a neuron fires.
        init_tau: Initial membrane time constant, in time steps.
    """

    backbone: BackboneName
    architecture: tuple[str, ...]
    channels: int
    stem: StemName
    input_shape: tuple[int, int, int]
    time_steps: int
    neuron: NeuronName
    v_threshold: float
    init_tau: float

    def __post_init__(self) -> None:
        Architecture.parse(str(Architecture(self.architecture)))  # raises if a block is unknown


@dataclass(frozen=True)
class ImageInput:
    """How a picture becomes input: resized and centre-cropped to the input's size, (x / 255 - mean) / std.

    Attributes:
        mean: Of each channel, of values in [0, 1]; one channel is grey, three are RGB.
        std: Standard deviation of each channel, likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class EventInput:
    """How a recording becomes input: windows of T frames of counted events.

    Attributes:
        sensor_size: (W, H) of the camera in pixels.
        frames: How events become frames.
        values: What the network sees of the counts.
        form: Form of the files where their suffix does not tell; see `snn.data.camera.recordings.FORMS`.
    """

    sensor_size: tuple[int, int]
    frames: FrameSettings
    values: EventValues
    form: str | None = None


@dataclass(frozen=True)
class Origin:
    """Where a network comes from.

    Attributes:
        dataset: Data set it was trained on.
        train_fingerprint: SHA-256 of its training samples.
        test_fingerprint: SHA-256 of its test samples.
        seed: Seed of its training.
        settings: Settings of its run that differ from the defaults, by name.
        versions: Version of each package that results depend on.
        created: When its run began, ISO 8601.
        commit: Commit of the code; "unknown" where it was installed without one.
    """

    dataset: str
    train_fingerprint: str
    test_fingerprint: str
    seed: int
    settings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    commit: str = "unknown"


@dataclass(frozen=True)
class Description:
    """A bundle's network.json.

    Attributes:
        format: Version of this file's form.
        name: What the network is called.
        structure: The network.
        class_names: Name of each class.
        images: How pictures become input; None for a network of event recordings.
        events: How recordings become input; None for a network of pictures.
        weights_sha256: Hash of the weights' file.
        metrics: Measured on the test set, by name.
        origin: Where it comes from.
    """

    format: int
    name: str
    structure: Structure
    class_names: tuple[str, ...]
    images: ImageInput | None
    events: EventInput | None
    weights_sha256: str
    metrics: dict[str, float]
    origin: Origin

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(
                f"format is {self.format}, but this version reads {FORMAT}: use the version that wrote it"
            )
        if (self.images is None) == (self.events is None):
            raise ValueError("exactly one of images and events must be given")
        channels = self.structure.input_shape[0]
        if self.images is not None and not len(self.images.mean) == len(self.images.std) == channels:
            raise ValueError(f"images.mean and images.std must have {channels} numbers, one per channel")


@dataclass(frozen=True)
class Bundle:
    """What makes a folder with weights a bundle.

    Attributes:
        description: Its network.json; without the hash of the weights until they are written.
        card: Its model card, in Markdown.
    """

    description: Description
    card: str
