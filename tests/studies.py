"""A study small enough to run on the tiny configuration."""

from mzprobe.settings import (
    CrossConfig,
    EquivalenceConfig,
    HorizonConfig,
    OnlineConfig,
    PlanningConfig,
    SearchErrorConfig,
    SequencesConfig,
    StepsConfig,
    StudyConfig,
)

HORIZON = HorizonConfig(states=4, episodes=1, horizon=2)


def study_of_all_probes(*seeds):
    """The probes of the paper's figures, of these agents."""
    return StudyConfig(
        preset="cartpole",
        seeds=seeds,
        steps=StepsConfig(search=(20,), planning=(40, 0)),
        online=OnlineConfig(episodes=2),
        horizon=HORIZON,
        sequences=SequencesConfig(states=3, episodes=1, length=3),
        cross=CrossConfig(states=3, episodes=1, horizon=2),
        search=SearchErrorConfig(states=3, episodes=1, simulations=(2,), horizon=2),
        planning=PlanningConfig(episodes=2, simulations=(2,), horizon=2),
        equivalence=EquivalenceConfig(states=2, episodes=1, horizon=2),
    )
