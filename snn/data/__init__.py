"""Labelled samples: data sets of images and of event recordings, their splits and augmentation."""

from snn.data.images import load_images
from snn.data.sample_set import SampleSet
from snn.data.samples import LabelledSamples
from snn.data.splits import balanced_subset, stratified_split

__all__ = ["LabelledSamples", "SampleSet", "balanced_subset", "load_images", "stratified_split"]
