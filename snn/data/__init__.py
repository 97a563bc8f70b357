"""Labelled samples: data sets of images and of event recordings, their splits and augmentation."""
