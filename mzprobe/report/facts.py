"""Facts of a run from the records of its tables: environment, agents, steps, versions, commands and compute."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mzprobe.figures.learning import TRAINING
from mzprobe.records.digests import SHORT, codes_of, section
from mzprobe.tables import TIMING, Table, commands_of


def facts_of(run: str, tables: Mapping[str, Table]) -> dict[str, Any]:
    """Returns the facts of a run for the head of a page, as text.

    Args:
        run: name of the run.
        tables: tables by name, including that of times if there is one.
    """
    asked = {name: table for name, table in tables.items() if name != TIMING}
    records = [record for table in asked.values() for record in table.record["agents"]]
    first = records[0]
    seeds = sorted({int(record["seed"]) for record in records})
    steps = sorted({int(step) for table in asked.values() for step in table.frame["training_step"].unique()})
    facts = {
        "Environment": _environment(first["environment"]),
        "Agents": f"{len(seeds)} (seed{'s' if len(seeds) > 1 else ''} {spans(seeds)})",
        "Training steps": f"asked at {', '.join(f'{step:,}' for step in steps)}",
        "Network and search": _trained(first["config"]),
        "Compute": _compute(records, tables.get(TIMING)),
        "Code of the tables": ", ".join(code[:SHORT] for code in codes_of(records)),
        "Versions": ", ".join(dict.fromkeys(_versions(record["versions"]) for record in records)),
    }
    return {
        "run": run,
        "facts": {name: said for name, said in facts.items() if said},
        "commands": _commands(asked),
        "settings": {name: _json(table.record["agents"][0]["settings"]) for name, table in asked.items()},
        "config": _json(first["config"]),
    }


def spans(numbers: Sequence[int]) -> str:
    """Formats sorted whole numbers as ranges: `0 to 2, 7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def _environment(spec: Mapping[str, Any]) -> str:
    shape = "\N{MULTIPLICATION SIGN}".join(map(str, spec["observation_shape"]))
    return (
        f"{spec['name']} ({spec['source']}): observations {shape}, {spec['num_actions']} actions, "
        f"gamma {spec['gamma']:g}, at most {spec['time_limit']:,} steps an episode"
    )


def _trained(config: Mapping[str, Any]) -> str:
    """Describes the main keys that tell configurations apart; those of other code may have none of them."""
    network, search, training, reanalyse = (
        section(config, part) for part in ("network", "search", "training", "reanalyse")
    )
    said = [str(network[name]) for name in ("kind",) if name in network]
    said += [f"{search['simulations']} simulations a search"] if "simulations" in search else []
    said += [f"unroll K = {training['unroll_steps']}"] if "unroll_steps" in training else []
    said += [f"reanalyse fraction {reanalyse['fraction']}"] if "fraction" in reanalyse else []
    return ", ".join(said)


def _compute(records: Sequence[Mapping[str, Any]], timing: Table | None) -> str:
    devices = dict.fromkeys(record.get("compute", {}).get("device", "") for record in records)
    precisions = dict.fromkeys(record.get("compute", {}).get("precision", "") for record in records)
    threads = dict.fromkeys(section(record["config"], "training").get("threads") for record in records)
    machines = dict.fromkeys(said for record in records for said in record.get("machine", {}).values())
    said = [f"device {', '.join(filter(None, devices))}"] if any(devices) else []
    said += [f"precision {', '.join(filter(None, precisions))}"] if any(precisions) else []
    said += [f"{count} thread{'s' if count > 1 else ''} in training" for count in threads if count]
    said += machines
    if timing is not None:
        frame = timing.frame[timing.frame["part"].isin(TRAINING)]
        last = frame[frame["training_step"] == frame.groupby("seed")["training_step"].transform("max")]
        said.append(f"training took {last['core_seconds'].sum() / 3600:.2g} core hours")
    return ", ".join(said)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _commands(tables: Mapping[str, Table]) -> dict[str, list[str]]:
    """Returns the names of the tables that each command made."""
    made: dict[str, list[str]] = {}
    for name, table in tables.items():
        for command in commands_of(table):
            made.setdefault(command, []).append(name)
    return made


def _json(values: Any) -> str:
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
