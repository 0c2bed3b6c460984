"""Does the value head say what the behaviour policy then earns? The record; what it names is imported when needed."""

from typing import ClassVar

from mzprobe.config import PositiveInt
from mzprobe.probes.question import Question, QuestionFigure
from mzprobe.settings import StatesConfig

UNITS = {
    "seed": "index; the agent",
    "training_step": "training steps",
    "temperature": "1; T of the policy",
    "state": "index",
    "time": "environment steps",
    "predicted_value": "discounted reward; v at the state",
    "value": "discounted reward; mean return of rollouts of the behaviour policy",
    "standard_error": "discounted reward; of value",
}


class CalibrationConfig(StatesConfig):
    """Does the value head say what the behaviour policy then earns?

    At sampled states of the policy: v against the mean return of rollouts in the truth, one row a state.
    """

    question: ClassVar[str] = "calibration"
    command: ClassVar[str] = "eval-calibration"
    example: ClassVar[str] = "checkpoints/cartpole --rollouts 8"

    states: PositiveInt = 50
    """S, states sampled for each agent and checkpoint."""
    rollouts: PositiveInt = 4
    """R, episodes of the behaviour policy from each state."""
    steps: PositiveInt | None = None
    """T, steps after which a return is cut; without it, the time limit."""


QUESTION = Question(
    config=CalibrationConfig,
    units=UNITS,
    measure="mzprobe_calibration.measure:measure_calibration",
    cost="mzprobe_calibration.measure:cost_of_calibration",
    figures=(
        QuestionFigure(
            name="calibration",
            aggregate="mzprobe_calibration.figure:aggregate_calibration",
            draw="mzprobe_calibration.figure:draw_calibration",
        ),
    ),
    claims="mzprobe_calibration.claims:CLAIMS",
)
