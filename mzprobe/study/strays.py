"""Tables in the folders of a study's runs that are not its own; figures and claims would show them beside its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mzprobe.compute import Compute
from mzprobe.errors import MzprobeError
from mzprobe.probes.registry import PROBES
from mzprobe.probes.runner import acting_unlike
from mzprobe.records.digests import own_code, without_places
from mzprobe.study.todo import AgentToDo, made_by
from mzprobe.tables import differing, read_record, tables_in


def strays(todo: Sequence[AgentToDo], compute: Compute | None = None) -> Iterator[tuple[Path, str]]:
    """Finds tables of a study's questions with other seeds, and of other questions about another behaviour policy.

    Args:
        todo: every agent of the study.
        compute: how networks run; the defaults of `Compute` if None.

    Yields:
        The path of a table, and the reason why it cannot be drawn with the study's own as a clause; empty if it can.
    """
    own = {table.path for agent in todo for table in agent.tables}
    firsts: dict[str, AgentToDo] = {}
    for agent in todo:
        firsts.setdefault(agent.run.name, agent)
    for first in firsts.values():
        asked = {table.path.parent for table in first.tables}
        for table in first.tables:
            new = {
                "settings": table.settings.model_dump(mode="json"),
                "config": without_places(first.run.config.model_dump(mode="json")),
                "versions": made_by(first.run.config) | own_code(PROBES[table.probe].modules),
                "compute": (compute or Compute()).record(),
            }
            for path in tables_in(table.path.parent):
                if path not in own:
                    yield path, _of_another_seed(path, new)
        if first.tables:  # all of them ask about the same behaviour policy
            for path, unlike in acting_unlike(first.timing.parent.parent, first.tables[0].settings):
                if path.parent not in asked:
                    yield path, f"is about a behaviour policy with other {unlike}"


def tables_of(agent: AgentToDo) -> list[Path]:
    """Returns the tables of an agent that the study does not ask for; they are put aside together with the agent."""
    own = {agent.timing, *(table.path for table in agent.tables)}
    there = agent.timing.parent.parent.glob(f"*/{agent.timing.name}")
    return sorted(path for path in there if path not in own)


def _of_another_seed(path: Path, new: dict[str, object]) -> str:
    """Returns why a table of another seed cannot be drawn with the study's own; empty if it can."""
    try:
        record = read_record(path)
    except MzprobeError as reason:
        return str(reason).removeprefix(f"{path} ").partition(":")[0]
    unlike = differing({**record, "dataset": {}}, new)  # a study's dataset may not be recorded yet
    return f"is of a seed that the study does not have, and was made with other {unlike}" if unlike else ""
