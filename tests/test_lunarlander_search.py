"""Searches and probes in the true Lunar Lander: the same trees however simulators come back, and few steps made again."""

import numpy as np
import pytest

pytest.importorskip("gymnasium.envs.box2d.lunar_lander", exc_type=ImportError) if False else None

from agents import made_agent
from models import random_network

from mzprobe.config import SearchConfig
from mzprobe.envs import LunarLander, make
from mzprobe.probes.horizon import measure_horizon
from mzprobe.probes.planning import measure_planning
from mzprobe.probes.sequences import measure_sequences
from mzprobe.search import Rollout, TrueModel, search
from mzprobe.settings import HorizonConfig, PlanningConfig, SequencesConfig
