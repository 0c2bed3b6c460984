"""Writes `tests/golden/search_tree.json`: the trees of a search in tables, node by node.

Run `python tests/helpers/regenerate_golden.py` only when the rule of the search is meant to change, and read the
difference before committing it. The tables stand in the file too, so the test does not depend on how they were drawn.
"""

import json
from pathlib import Path

import numpy as np
from models import TabularModel, random_tabular_model

from mzprobe.config import SearchConfig
from mzprobe.search import search

PATH = Path(__file__).parent.parent / "golden" / "search_tree.json"


def tables(model):
    """What `model_of` needs, as JSON."""
    names = ("transitions", "rewards", "prior", "value")
    return {name: getattr(model, name).tolist() for name in names} | {"gamma": model.gamma}


def model_of(tables):
    """The model that the tables describe."""
    return TabularModel(**tables)


def trees(model, roots, config):
    """Every array of the trees, as JSON; Python's floats keep all their bits there."""
    tree = search(model, np.array(roots), config=config, keep_tree=True).tree
    return {name: array.tolist() for name, array in tree._asdict().items()}


def main():
    """Draws the tables and writes them with their trees."""
    model = random_tabular_model(11, 7, 3, gamma=0.95)
    roots, config = [0, 3, 5], SearchConfig(simulations=12)
    record = {"tables": tables(model), "roots": roots, "config": config.model_dump()}
    PATH.parent.mkdir(exist_ok=True)
    record["tree"] = trees(model, roots, config)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    PATH.write_text("{\n" + lines + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
