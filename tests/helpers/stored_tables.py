"""Tables as probes write them, with rows that nobody measured."""

import json

import pyarrow.parquet as pq

from mzprobe.tables import Table, table_path, write_table


def table_of(frame, *, probe="horizon", run="made", **changes):
    """One agent's table with the record that its rows ask for, changed where said; a column's unit is 1."""
    steps = sorted(frame["training_step"].unique())
    record = {
        "probe": probe,
        "run": run,
        "seed": int(frame["seed"].iloc[0]),
        "settings": {},
        "config": {},
        "environment": {
            "name": "cartpole",
            "source": "nobody's",
            "observation_shape": [4],
            "num_actions": 2,
            "gamma": 0.99,
            "time_limit": 500,
        },
        "versions": {"mzprobe": "0"},
        "commands": {str(step): f"mzprobe {run}" for step in steps},
    }
    units = dict.fromkeys(frame.columns, "1")
    return Table(frame=frame.reset_index(drop=True), units=units, record=record | changes)


def store(analyses, frame, *, probe="horizon", run="made", folder=None, **changes):
    """Writes a run's tables, an agent a file; `folder` is the probe's where that is another."""
    for seed, own in frame.groupby("seed"):
        path = table_path(analyses, run, folder or probe, int(seed))
        write_table(path, table_of(own, probe=probe, run=run, **changes))


def without_seal(path, target):
    """Writes a table as an older mzprobe did, which knew no seals."""
    arrow = pq.read_table(path)
    record = json.loads(arrow.schema.metadata[b"mzprobe"])
    assert record.pop("sealed")
    metadata = {b"mzprobe": json.dumps(record, sort_keys=True).encode()}
    pq.write_table(arrow.replace_schema_metadata(metadata), target)
