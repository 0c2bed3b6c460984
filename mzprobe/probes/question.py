"""Questions that are asked of agents: one record with its settings, columns, measure, cost, figures and claims.

Functions may be named as `module:attribute` instead. They are then imported when needed, so that drawing a figure does
not import torch.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mzprobe._plugins import load_attribute
from mzprobe.errors import UsageError
from mzprobe.settings import ProbeConfig

if TYPE_CHECKING:
    import pandas as pd

    from mzprobe.agents import Agent
    from mzprobe.probes.cost import Cost

TIMED_TREES = 64  # trees grown side by side when speed is measured, unless a question plays its episodes side by side


@dataclass(frozen=True, kw_only=True)
class QuestionFigure:
    """A figure that is made from a question's table."""

    name: str  # name of its files
    aggregate: "Callable[[pd.DataFrame], pd.DataFrame] | str"  # rows of the table -> rows of the CSV beside the figure
    draw: Callable[..., Any] | str  # (rows of the CSV, *, title) -> matplotlib's Figure


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question: how it is measured, about one checkpoint or a pair of them, and what that costs."""

    config: type[ProbeConfig]  # class of its settings, which holds its name and its command
    units: dict[str, str]  # units of its columns, in the order of the columns
    measure: "Callable[..., pd.DataFrame] | str"  # (agent, config, *, on_progress), or (agent, config, others, ..)
    cost: "Callable[[Agent, Any, int], Cost] | str"  # (agent, config, number of others) -> cost of one checkpoint
    optional: tuple[str, ...] = ()  # columns that only some environments have
    pair: str = ""  # column naming the second checkpoint of a pair; empty for single-checkpoint questions
    steps: tuple[int, ...] = ()  # training steps measured by default; empty means all
    shared: bool = False  # whether processes can share its episodes
    file: str = ""  # file that a checkpoint must hold; checkpoints without it are skipped unless asked for by step
    without: str = ""  # end of the error message if no checkpoint holds the file
    masks: bool = False  # whether it leaves out illegal actions where an environment has them
    plays: bool = False  # whether it plays its `episodes` side by side, and searches in no more trees than episodes
    kind: Callable[[Any], str] | None = None  # settings -> suffix of the tables' name; empty for none
    figures: tuple[QuestionFigure, ...] = ()
    claims: Sequence[Any] | str = ()  # objects of `mzprobe.claims.Claim`

    @property
    def name(self) -> str:
        """Name of the question and of its tables."""
        return self.config.question

    @property
    def command(self) -> str:
        """Name of the command that asks it."""
        return self.config.command

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that define its settings and its measure."""
        measure = self.measure
        named = measure.partition(":")[0] if isinstance(measure, str) else getattr(measure, "__module__", "")
        return self.config.__module__, named

    def columns_of(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """Returns the question's columns of a table's rows, in their order, without missing optional ones.

        Raises:
            KeyError: if a column is missing that is not optional.
        """
        return rows[[name for name in self.units if name in rows or name not in self.optional]]

    def odd_columns(self, columns: Iterable[Any]) -> list[str]:
        """Returns the columns that are not the question's, and those that are missing and not optional, sorted."""
        return sorted(({*columns} ^ {*self.units}) - {*self.optional})

    def usual_steps(self, there: Collection[int]) -> tuple[int, ...]:
        """Returns the training steps measured by default for an agent with checkpoints at `there`; empty means all.

        If the agent lacks one of the question's `steps`, only its last step is measured.
        """
        if len(there) <= 1 or not self.steps:
            return ()
        return self.steps if {*self.steps} <= {*there} else (max(there),)

    def side_by_side(self, config: ProbeConfig) -> int:
        """Returns the number of searches that it runs side by side, to estimate its time."""
        side_by_side: int = getattr(config, "episodes") if self.plays else TIMED_TREES  # noqa: B009 - of those settings alone
        return side_by_side

    def table(self, config: ProbeConfig) -> str:
        """Returns the name of the tables for given settings."""
        kind = "" if self.kind is None else self.kind(config)
        return f"{self.name}-{kind}" if kind else self.name

    def ask(self, agent: "Agent", config: ProbeConfig, *others: "list[Agent]", **options: Any) -> "pd.DataFrame":
        """Measures one checkpoint, whose agent acts as the settings say.

        Args:
            agent: the checkpoint.
            config: settings.
            *others: for a question about pairs, one list with the second checkpoints.
            **options: further arguments of the measure, such as `on_progress`.

        Raises:
            UsageError: if the measure returns other columns than the question's, or the environment has illegal actions
                and the question tries all actions.
        """
        from mzprobe.probes.acting import as_asked

        self._refuse_masks(agent)
        rows: pd.DataFrame = as_asked(resolved(self.measure))(agent, config, *others, **options)
        odd = self.odd_columns(rows)
        if odd:
            raise UsageError(
                f"question {self.name} gave other columns than its units name ({', '.join(odd)}): mend its measure"
            )
        return rows

    def _refuse_masks(self, agent: "Agent") -> None:
        """Rejects environments with illegal actions for questions that enumerate all sequences.

        Raises:
            UsageError: if the environment states legal actions, and the question has no `masks`.
        """
        from mzprobe.envs.core import legal_actions

        environment = agent.environment
        if not self.masks and legal_actions(environment, environment.reset([0])) is not None:
            raise UsageError(
                f"{environment.spec.name} says which actions are legal, and {self.command} tries all: ask such agents "
                "eval-online, eval-planning and eval-targets alone"
            )

    def price(self, agent: "Agent", config: ProbeConfig, others: int) -> "Cost":
        """Returns an upper bound on the cost of measuring one checkpoint.

        Args:
            agent: the checkpoint.
            config: settings.
            others: number of second checkpoints, for a question about pairs.

        Raises:
            UsageError: if the environment has illegal actions, as in `ask`, so that a study learns of it before it
                trains.
        """
        from mzprobe.probes.acting import acting_as

        self._refuse_masks(agent)
        cost: Cost = resolved(self.cost)(acting_as(agent, config.acting), config, others)
        return cost


def resolved(given: Any) -> Any:
    """Returns the attribute that a string names as `module:attribute`, and any other object as it is.

    Raises:
        UsageError: if the module or attribute does not exist or cannot be imported.
    """
    return load_attribute(given, called=False) if isinstance(given, str) else given
