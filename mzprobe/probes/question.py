"""A question that is asked of agents: one record from its settings to its columns, its cost, its figures and claims.

Functions may be named as `module:attribute` instead, and are imported when they are needed: a figure needs no torch.
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

TIMED_TREES = 64  # grown side by side when a speed is measured, unless a question says how many it grows


@dataclass(frozen=True, kw_only=True)
class QuestionFigure:
    """How a figure is made from a question's table."""

    name: str  # of the files
    aggregate: "Callable[[pd.DataFrame], pd.DataFrame] | str"  # the table's rows to those of the CSV beside the figure
    draw: Callable[..., Any] | str  # (those, *, title) -> matplotlib's Figure


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, of how many checkpoints at once, and what that costs."""

    config: type[ProbeConfig]  # its settings, with its name and its command
    units: dict[str, str]  # of its columns
    measure: "Callable[..., pd.DataFrame] | str"  # (agent, config, *, on_progress), or (agent, config, others, ..)
    cost: "Callable[[Agent, Any, int], Cost] | str"  # (agent, config, others of a pair): of one checkpoint
    optional: tuple[str, ...] = ()  # of the columns, those that only some environments have
    pair: str = ""  # column of the other checkpoints that one is asked about, if it is
    steps: tuple[int, ...] = ()  # training steps that are looked at by default; none means all
    shared: bool = False  # whether processes can share its episodes
    file: str = ""  # file that a checkpoint must hold; those without it are left out, unless asked for
    without: str = ""  # what is said of one without it
    masks: bool = False  # whether it leaves out what is illegal, where an environment says what is
    plays: bool = False  # whether it plays its `episodes` side by side, and searches in no more trees than those
    kind: Callable[[Any], str] | None = None  # by settings: what distinguishes tables, at the end of their name
    figures: tuple[QuestionFigure, ...] = ()
    claims: Sequence[Any] | str = ()  # of `mzprobe.claims.Claim`

    @property
    def name(self) -> str:
        """Name of the question and of its tables."""
        return self.config.question

    @property
    def command(self) -> str:
        """Command that asks it."""
        return self.config.command

    @property
    def modules(self) -> tuple[str, ...]:
        """Where its code is: that of its settings, and of its measure."""
        measure = self.measure
        named = measure.partition(":")[0] if isinstance(measure, str) else getattr(measure, "__module__", "")
        return self.config.__module__, named

    def columns_of(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """The columns of a table's rows, in their order.

        Raises:
            KeyError: if one is missing that is not optional.
        """
        return rows[[name for name in self.units if name in rows or name not in self.optional]]

    def odd_columns(self, columns: Iterable[Any]) -> list[str]:
        """The columns that rows have and the question does not, or lack, sorted."""
        return sorted(({*columns} ^ {*self.units}) - {*self.optional})

    def usual_steps(self, there: Collection[int]) -> tuple[int, ...]:
        """The training steps that are looked at by default, of an agent that has these; none means all.

        Where it lacks one of them, that is its last.
        """
        if len(there) <= 1 or not self.steps:
            return ()
        return self.steps if {*self.steps} <= {*there} else (max(there),)

    def side_by_side(self, config: ProbeConfig) -> int:
        """Searches that it runs side by side, for an estimate of its time."""
        side_by_side: int = getattr(config, "episodes") if self.plays else TIMED_TREES  # noqa: B009 - of those settings alone
        return side_by_side

    def table(self, config: ProbeConfig) -> str:
        """Name of the tables for some settings."""
        kind = "" if self.kind is None else self.kind(config)
        return f"{self.name}-{kind}" if kind else self.name

    def ask(self, agent: "Agent", config: ProbeConfig, *others: "list[Agent]", **options: Any) -> "pd.DataFrame":
        """Measures one checkpoint, whose agent acts as the settings say.

        Raises:
            UsageError: if that gives other columns than the question's, or the environment says which actions are legal
                and the question tries all.
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
        """Where some actions are illegal, a question that tries all sequences would count what nobody can do."""
        from mzprobe.envs.core import legal_actions

        environment = agent.environment
        if not self.masks and legal_actions(environment, environment.reset([0])) is not None:
            raise UsageError(
                f"{environment.spec.name} says which actions are legal, and {self.command} tries all: ask such agents "
                "eval-online, eval-planning and eval-targets alone"
            )

    def price(self, agent: "Agent", config: ProbeConfig, others: int) -> "Cost":
        """The cost of asking about a checkpoint, at most.

        Raises:
            UsageError: as `ask`, so that a study finds out before it trains.
        """
        from mzprobe.probes.acting import acting_as

        self._refuse_masks(agent)
        cost: Cost = resolved(self.cost)(acting_as(agent, config.acting), config, others)
        return cost


def resolved(given: Any) -> Any:
    """What is given, or what it names as `module:attribute`."""
    return load_attribute(given, called=False) if isinstance(given, str) else given
