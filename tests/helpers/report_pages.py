"""Runs that a report can be made of, and what stands in its page."""

import base64
import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from agents import made_agent
from brute import wrong_network
from stored_tables import store
from synthetic import World

from mzprobe.envs import random_mdp
from mzprobe.probes.inspect import measure_inspect
from mzprobe.settings import InspectConfig

FURTHER = {  # columns that figures need, beside those of claims
    "online": {"temperature": 1.0},
    "horizon": {},
    "cross": {"h": 4, "policy_temperature": 1.0},
    "search_error": {},
    "planning": {"leaf": "rollout", "horizon": 16, "counted_from": "root"},
}


def tables(effect=1.0, *, agents=8, seed=0):
    """Tables in which the claims are so, by probe."""
    return {name: World(effect, agents=agents, seed=seed).table(name).assign(**more) for name, more in FURTHER.items()}


def store_run(analyses, *, run="made", effect=1.0, agents=8, **changes):
    """Writes them."""
    for probe, frame in tables(effect, agents=agents).items():
        store(analyses, frame, probe=probe, run=run, **changes)


def states_of(frame):
    """States looked into, of the agents and training steps of another table; of each the same, but for its return."""
    env = random_mdp(1, num_states=6, num_actions=2, terminal_fraction=0.3, time_limit=6)
    config = InspectConfig(states=5, episodes=2, rollouts=2, steps=5)
    one = measure_inspect(made_agent(env, wrong_network(1, 6, 2)), config)
    found = [
        one.assign(seed=seed, training_step=step, true_return=one["true_return"] + seed + step / 1000)
        for seed, step in frame[["seed", "training_step"]].drop_duplicates().itertuples(index=False)
    ]
    return pd.concat(found, ignore_index=True)


class Page(HTMLParser):
    """A page's elements, its text, and what its scripts hold."""

    def __init__(self, data):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.scripts, self._open = [], [], [], None
        self.feed(data.decode())
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")
        self._open = tag

    def handle_endtag(self, tag):
        self._open = None if tag == self._open else self._open

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.texts.append(data.strip())

    def of(self, tag, **having):
        """The attributes of such elements."""
        return [found for name, found in self.elements if name == tag and having.items() <= found.items()]

    def numbers(self):
        """What the charts read."""
        kinds = [found.get("type") for found in self.of("script")]
        return json.loads(self.scripts[kinds.index("application/json")])


def unpacked(text):
    """Numbers as the page reads them."""
    return np.frombuffer(base64.b64decode(text), "<f8")
