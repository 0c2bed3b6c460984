"""Recorded episodes in Minari's format: opened and verified, written, and collected by an agent."""

from mzprobe.datasets.core import Recorded
from mzprobe.datasets.reading import Dataset, open_dataset
from mzprobe.datasets.writing import DatasetWriter, new_dataset

__all__ = ["Dataset", "DatasetWriter", "Recorded", "new_dataset", "open_dataset"]
