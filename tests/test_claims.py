"""Claims: true, false and underpowered in made-up tables, effects worked by hand, and what is shown of them."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import World, a_claim, judged, made, named

from mzprobe.claims import CLAIMS, without_ends
from mzprobe.claims import effects as paper
from mzprobe.significance import holm

EVERY_CLAIM = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)


def effects(measure, frame):
    """Effects by cell and seed."""
    return {(row.cell, row.seed): row.effect for row in measure(frame).itertuples()}


# True, false, underpowered


@EVERY_CLAIM
@pytest.mark.parametrize("seed", range(3))
def test_a_claim_that_is_true_holds(claim, seed):
    found = judged(claim, World(1.0, seed=seed).table(claim.probe))
    assert found.verdict == "holds"
    assert 0 < found.effect.low <= found.effect.estimate <= found.effect.high
    assert (found.agents, found.agreeing) == (8, 8)
    assert found.p == pytest.approx(2 / 2**8)


@EVERY_CLAIM
@pytest.mark.parametrize("seed", range(3))
def test_a_claim_that_is_false_fails(claim, seed):
    found = judged(claim, World(-1.0, seed=seed).table(claim.probe))
    assert found.verdict == ("undecided" if claim.name == "own-policy-is-row-minimum" else "fails")
    assert found.effect.high < 0
    assert found.p <= 0.05
    assert found.agreeing == 0


@EVERY_CLAIM
@pytest.mark.parametrize("effect", [1.0, -1.0])
def test_three_agents_decide_nothing_however_they_agree(claim, effect):
    found = judged(claim, World(effect, agents=3).table(claim.probe))
    assert found.verdict == "undecided"
    assert found.p >= 0.25


@EVERY_CLAIM
def test_agents_that_disagree_decide_nothing(claim):
    # Each agent's effect has a sign of its own: four are for the claim as much as the other four are against it.
    halves = [World(sign, agents=4, noise=0.01, seed=4).table(claim.probe) for sign in (1.0, -1.0)]
    halves[1]["seed"] += 4
    found = judged(claim, pd.concat(halves, ignore_index=True))
    assert found.verdict == "undecided"
    assert (found.agents, found.agreeing) == (8, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["planning-beats-prior-online", "diagonal-is-smallest"])
def test_where_there_is_no_effect_a_verdict_is_rare(name):
    claim = named(name)
    verdicts = [judged(claim, World(0.0, noise=1.0, seed=seed).table(claim.probe)).verdict for seed in range(150)]
    wrong = sum(verdict != "undecided" for verdict in verdicts) / 150
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    if name == "planning-beats-prior-online":  # p <= 0.05 is reached by 12 of 256 patterns of signs
        assert wrong >= 12 / 256 - 3 * np.sqrt(0.05 * 0.95 / 150)


# No data


@EVERY_CLAIM
def test_without_a_table_there_is_no_data(claim):
    found = judged(claim, None)
    assert found.verdict == "no data"
    assert (found.agents, found.cells) == (0, ())
    assert np.isnan([found.p, found.effect.estimate, found.effect.low]).all()


@EVERY_CLAIM
def test_a_table_that_lacks_what_is_compared_gives_no_data(claim):
    frame = World(1.0).table(claim.probe)
    lacking = {
        "online": frame["policy"].eq("prior") if "policy" in frame else None,
        "horizon": frame["training_step"].eq(0),
        "sequences": frame["training_step"].eq(0),
        "cross": frame["training_step"].eq(500) & frame.get("policy_step", frame["training_step"]).eq(500),
        "search_error": frame["prior"].eq("policy") if "prior" in frame else None,
        "planning": frame["model"].eq("none") if "model" in frame else None,
        "improvement": frame["training_step"].eq(0),
        "targets": frame["age"].eq(10) if "age" in frame else None,
    }[claim.probe]
    assert judged(claim, frame[lacking]).verdict == "no data"


def test_one_agent_has_an_effect_and_no_interval():
    found = judged(CLAIMS[0], World(1.0, agents=1).table("online"))
    assert (found.verdict, found.agents, found.agreeing, found.p) == ("undecided", 1, 1, 1.0)
    assert np.isnan(found.effect.low)


def test_agents_without_a_rho_are_left_out():
    frame = World(1.0).table("sequences")
    frame.loc[frame["seed"] == 3, "state_rho"] = np.nan
    assert judged(named("error-falls-with-probability"), frame).agents == 7


# How a verdict comes about


def test_an_agent_counts_once_however_many_cells_it_has():
    # Agent 0 has one cell of 10, agent 1 two of 1 and 3: the mean over agents is (10 + 2) / 2.
    frame = made([("a", 0, 10.0), ("a", 1, 1.0), ("b", 1, 3.0)])
    found = judged(a_claim(), frame)
    assert found.effect.estimate == 6.0
    assert [(cell.label, cell.agents) for cell in found.cells] == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("every", [False, True])
def test_an_agent_without_an_effect_agrees_with_nobody(every):
    frame = made([("a", 0, 0.0), ("a", 1, 1.0), ("a", 2, -2.0)])
    found = judged(a_claim(every=every), frame)
    assert (found.agents, found.agreeing) == (3, 1)


def smallest_scaled(numbers):
    """The smallest mean over cells, each by the root of its mean square."""
    return (numbers.mean(axis=1) / np.sqrt((numbers**2).mean(axis=1))).min()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), cells=st.integers(1, 4), shift=st.sampled_from([-1.0, 0.0, 1.0]))
def test_a_claim_about_every_cell_holds_where_each_does_and_fails_where_one_does_not(seed, cells, shift):
    numbers = np.random.default_rng(seed).standard_normal((cells, 7)) + shift
    found = judged(
        a_claim(every=True), made([(f"c{c}", agent, x) for c, row in enumerate(numbers) for agent, x in enumerate(row)])
    )
    ps = [cell.p for cell in found.cells]
    assert [cell.adjusted for cell in found.cells] == holm(ps).tolist()
    means = numbers.mean(axis=1)
    if (means > 0).all():
        assert found.verdict == ("holds" if max(ps) <= 0.05 else "undecided")
        assert found.p == max(ps)
        assert found.effect.estimate == pytest.approx(means[np.argmax(ps)])
    else:
        patterns = itertools.product([-1, 1], repeat=7)
        smallest = [smallest_scaled(numbers * signs) for signs in patterns]
        p = min(1.0, 2 * np.mean(np.array(smallest) <= smallest_scaled(numbers) + 1e-9))
        assert found.p == pytest.approx(p)
        assert found.verdict == ("fails" if p <= 0.05 else "undecided")
        assert found.effect.estimate < 0
    assert found.agreeing == (numbers > 0).all(axis=0).sum()
    assert found.agents == 7


def test_a_claim_about_every_cell_leaves_out_what_not_all_agents_have():
    rows = [(cell, agent, 1.0 + agent / 10) for cell in ("a", "b") for agent in range(8)]
    found = judged(a_claim(every=True), made([*rows, ("c", 0, -5.0)]))
    assert (found.verdict, found.agents, found.agreeing) == ("holds", 8, 8)
    assert [cell.label for cell in found.cells] == ["a", "b"]


@EVERY_CLAIM
def test_training_steps_that_not_all_agents_have_change_nothing(claim):
    frame = World(1.0).table(claim.probe)
    further = frame[frame["seed"] == 0].assign(training_step=9000)
    if "policy_step" in frame:
        further["policy_step"] = 9000
    both = pd.concat([frame, further], ignore_index=True)
    one, other = judged(claim, frame), judged(claim, both)
    assert (one.verdict, one.p, one.agents) == (other.verdict, other.p, other.agents)
    assert one.effect.estimate == pytest.approx(other.effect.estimate)


def test_an_error_that_does_not_grow_speaks_against_its_growth():
    frame = World(1.0, agents=12).table("horizon")
    frame.loc[frame["seed"] < 6, "error"] = 0.01
    found = judged(named("error-grows-with-horizon"), frame)
    assert (found.agents, found.agreeing) == (12, 6)
    assert found.effect.estimate == pytest.approx(0.5)


def test_sampled_errors_are_judged_without_the_bias_of_their_magnitude():
    # The model is right on average at every h; what sampling adds to |mean| grows with h.
    generator = np.random.default_rng(0)
    rows = []
    for seed in range(8):
        for h in (1, 2, 3, 4):
            for signed in 0.1 * h * generator.standard_normal(400):
                rows.append((1000, seed, h, 1.0, abs(signed), signed, 0.1 * h, False))
    columns = ["training_step", "seed", "h", "value", "error", "signed_error", "standard_error", "exact"]
    frame = pd.DataFrame(rows, columns=columns)
    claim = named("error-grows-with-horizon")
    assert judged(claim, frame).effect.estimate < 0.6
    assert judged(claim, frame.assign(exact=True)).effect.estimate == 1.0


def test_findings_do_not_depend_on_the_order_of_rows_or_agents():
    for claim in CLAIMS:
        frame = World(0.3, noise=1.0).table(claim.probe)
        shuffled = frame.sample(frac=1, random_state=1)
        if claim.probe == "sequences":  # one number an agent and step stands in every row
            shuffled = shuffled.sort_values("training_step", kind="stable")
        one, other = judged(claim, frame), judged(claim, shuffled)
        assert (one.verdict, one.p) == (other.verdict, other.p)
        assert one.effect.estimate == pytest.approx(other.effect.estimate, rel=1e-12, abs=1e-15)


# Effects by hand


def test_the_effect_online_is_the_difference_of_mean_returns():
    rows = [(0, 0, "behaviour", 9.0), (500, 0, "behaviour", 5.0), (500, 0, "behaviour", 7.0), (500, 0, "prior", 2.0)]
    frame = pd.DataFrame(rows, columns=["training_step", "seed", "policy", "return"])
    assert effects(paper.planning_beats_prior_online, frame) == {("step 500", 0): 4.0}


def test_growth_with_the_horizon_is_a_rank_correlation_and_nearness_a_share_of_the_value():
    rows = [
        (1000, 0, h, value, error)
        for h, value, error in ((1, -2.0, 0.02), (1, 4.0, 0.04), (2, 5.0, 0.5), (3, 5.0, 0.3))
    ]
    frame = pd.DataFrame(rows, columns=["training_step", "seed", "h", "value", "error"]).assign(exact=True)
    # Errors 0.03, 0.5, 0.3: two pairs of three in order.
    assert effects(paper.error_grows_with_horizon, frame) == {("step 1,000", 0): pytest.approx(1 / 3)}
    # 0.03 of a mean magnitude of 3.
    assert effects(paper.near_zero_at_one_step, frame) == {("step 1,000", 0): pytest.approx(0.05 - 0.01)}


def test_the_trend_of_sequences_and_its_growth():
    # Two sequences each of two states, whose rhos are 0.1 apart; a third state has none.
    rhos = ((0, 0.9), (1, -0.1), (2, -0.4), (3, -0.3))
    rows = [(step, 0, s, rho + [0.05, -0.05, np.nan][s]) for step, rho in rhos for s in range(3) for _ in range(2)]
    frame = pd.DataFrame(rows, columns=["training_step", "seed", "state", "state_rho"])
    expected = {(f"step {k}", 0): pytest.approx(x) for k, x in ((1, 0.1), (2, 0.4), (3, 0.3))}
    assert effects(paper.error_falls_with(""), frame) == expected
    assert effects(paper.trend_grows_with_training, frame) == {("all steps", 0): pytest.approx(1 / 3)}


def test_a_step_without_a_rho_is_left_out_of_the_growth():
    rows = [(1, 0, 0, -0.1), (2, 0, 0, np.nan), (3, 0, 0, -0.3), (4, 0, 0, -0.2)]
    frame = pd.DataFrame(rows, columns=["training_step", "seed", "state", "state_rho"])
    # Of the three pairs that are left two are in order.
    assert effects(paper.trend_grows_with_training, frame) == {("all steps", 0): pytest.approx(1 / 3)}


def test_where_all_true_values_are_0_an_error_has_no_share_of_them():
    rows = [(1, seed, 1, value, 0.1) for seed, value in ((0, 0.0), (1, 4.0))]
    frame = pd.DataFrame(rows, columns=["training_step", "seed", "h", "value", "error"]).assign(exact=True)
    found = judged(named("near-zero-at-one-step"), frame)
    assert (found.agents, found.effect.estimate) == (1, pytest.approx(0.05 - 0.025))


def test_the_matrix_is_compared_within_its_rows():
    errors = {(0, 0): 5, (0, 1): 9, (0, 2): 4, (1, 0): 3, (1, 1): 2, (1, 2): 6, (2, 0): 1, (2, 1): 1, (2, 2): 1}
    rows = [(x, y, 0, float(error)) for (x, y), error in errors.items()]
    frame = pd.DataFrame(rows, columns=["training_step", "policy_step", "seed", "error"]).assign(exact=True)
    found = effects(paper.diagonal_is_smallest, frame)
    assert found == {(f"X = {x}; Y = {y}", 0): float(errors[x, y] - errors[x, x]) for x, y in errors if x != y}
    # Of the trained steps 1 and 2, the first half is 1; its later policy is that of 2.
    assert effects(paper.early_models_misjudge_later_policies, frame) == {("step 1", 0): 4.0}


def test_early_models_are_the_first_half_of_the_trained_ones_and_no_more():
    errors = {(0, 9): 50, (1, 1): 1, (1, 2): 3, (1, 3): 6, (2, 2): 1, (2, 3): 70, (3, 3): 1}
    rows = [(x, y, 0, float(error)) for (x, y), error in errors.items()]
    frame = pd.DataFrame(rows, columns=["training_step", "policy_step", "seed", "error"]).assign(exact=True)
    # Of three trained steps that is one: later policies are wrong by 2 and by 5 more.
    assert effects(paper.early_models_misjudge_later_policies, frame) == {("step 1", 0): 3.5}


def test_the_best_other_policy_of_a_row_is_the_one_with_the_smallest_mean():
    # Row 1 of three agents; policies 2 and 3. By its own numbers each agent would choose the smaller.
    errors = {0: (1.0, 2.0, 5.0), 1: (1.0, 4.0, 2.0), 2: (1.0, 6.0, 3.0)}  # of Y = 1, 2 and 3 in row 1
    rows = [(1, y, seed, e) for seed, own in errors.items() for y, e in zip((1, 2, 3), own, strict=True)]
    rows += [(1, 0, seed, 0.0) for seed in errors]  # the untrained policy is no rival
    frame = pd.DataFrame(rows, columns=["training_step", "policy_step", "seed", "error"]).assign(exact=True)
    # The means are 4 and 10 / 3.
    found = effects(paper.own_policy_is_row_minimum, frame)
    assert found == {("step 1", 0): 4.0, ("step 1", 1): 1.0, ("step 1", 2): 2.0}
    means = effects(paper.own_policy_is_easier, frame)
    assert means == {("step 1", 0): 2.5, ("step 1", 1): 2.0, ("step 1", 2): 3.5}


def test_the_slope_on_the_distance_is_that_of_least_squares_within_a_row():
    rows = [(1, y, 0, s, e, tv) for y, e, tv in ((1, 1.0, 0.0), (2, 2.0, 0.2), (3, 2.0, 0.4)) for s in range(2)]
    columns = ["training_step", "policy_step", "seed", "state", "error", "tv"]
    frame = pd.DataFrame(rows, columns=columns).assign(exact=True, own_temperature=True)
    other = frame.assign(error=1e6, own_temperature=False)  # the same policies at T = 1 have no say
    found = effects(paper.error_rises_with_distance, pd.concat([frame, other]))
    assert found == {("step 1", 0): pytest.approx(np.polyfit([0, 0.2, 0.4], [1, 2, 2], 1)[0])}
    assert judged(named("error-rises-with-distance"), frame.drop(columns="tv")).verdict == "no data"


def test_errors_of_steps_by_hand():
    rows = [(1, 0, h, s, e, u, g) for h, s, e, u, g in (
        (1, 0, 0.1, 0.1, 0.1), (1, 1, 0.3, -0.3, -0.3), (2, 0, 0.5, 0.4, 0.2), (2, 1, 0.7, -0.4, 0.0),
        (3, 0, 1.0, 0.1, 0.0), (3, 1, 1.4, -0.1, 0.0),
    )]  # fmt: skip
    columns = ["training_step", "seed", "h", "state", "error", "step_signed_error", "grounded_signed_error"]
    frame = pd.DataFrame(rows, columns=columns).assign(exact=True)
    assert effects(paper.error_compounds, frame) == {("step 1", 0): pytest.approx((1.2 - 3 * 0.2) / (1.2 + 3 * 0.2))}
    # Magnitudes 0.2, 0.4, 0.1: one pair of three in order.
    assert effects(paper.step_error_grows, frame) == {("step 1", 0): pytest.approx(-1 / 3)}
    assert effects(paper.unrolling_adds_error, frame) == {("step 1", 0): pytest.approx((0.3 + 0.1) / 2)}
    # Beyond h = 2 sequences were sampled: what their mean adds is not the model's; older tables do not say how much.
    sampled = frame.assign(exact=frame["h"] < 3)
    assert effects(paper.step_error_grows, sampled) == {("step 1", 0): 1.0}
    assert effects(paper.unrolling_adds_error, sampled) == {("step 1", 0): pytest.approx(0.3)}


def test_errors_of_sampled_steps_are_corrected_by_their_own_standard_errors():
    rows = [(h, s, u, step, g, grounded) for h, s, u, step, g, grounded in (
        (1, 0, 3.0, 0.0, 3.0, 0.0), (1, 1, 4.0, 0.0, 4.0, 0.0),
        (2, 0, 5.0, 3.0, 2.0, 1.0), (2, 1, -5.0, 4.0, -1.0, 0.0),
    )]  # fmt: skip
    columns = [
        "h",
        "state",
        "step_signed_error",
        "step_standard_error",
        "grounded_signed_error",
        "grounded_standard_error",
    ]
    frame = pd.DataFrame(rows, columns=columns).assign(training_step=1, seed=0, error=9.0, standard_error=7.0)
    frame = frame.assign(exact=frame["h"] == 1, signed_error=9.0)
    # Root mean squares 3.54 and 3.54 (16 and 9), one of them tied: what grows is the sampling alone.
    unrolled, grounded = np.sqrt((16 + 9) / 2), np.sqrt((3 + 1) / 2)
    assert effects(paper.unrolling_adds_error, frame) == {("step 1", 0): pytest.approx(unrolled - grounded)}
    assert effects(paper.step_error_grows, frame) == {("step 1", 0): 0.0}


def test_cells_that_were_chosen_against_a_claim_cannot_make_it_fail():
    rows = [(1, y, seed, 1.0 - (y > 1) * 0.1 * (seed + 1)) for seed in range(8) for y in (1, 2, 3)]
    frame = pd.DataFrame(rows, columns=["training_step", "policy_step", "seed", "error"]).assign(exact=True)
    found = judged(named("own-policy-is-row-minimum"), frame)
    assert (found.verdict, found.p) == ("undecided", 2 / 2**8)
    assert found.effect.estimate < 0
    better = frame.assign(error=2 - frame["error"])
    assert judged(named("own-policy-is-row-minimum"), better).verdict == "holds"


def test_states_from_which_an_end_is_near_can_be_left_out():
    rows = [(0, 1, s, h, e, end) for s, h, e, end in (
        (0, 1, 1.0, False), (0, 2, 9.0, True), (1, 1, 2.0, False), (1, 2, 3.0, False),
    )]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["seed", "training_step", "state", "h", "error", "end_within"])
    assert without_ends(frame)["state"].tolist() == [1, 1]
    assert without_ends(frame.drop(columns="end_within")) is None


def test_nearness_is_a_ratio_of_one_norm_where_sequences_were_sampled():
    rows = [(1, 0, 1, value, error, 0.0) for value, error in ((3.0, 0.3), (4.0, 0.4))]
    columns = ["training_step", "seed", "h", "value", "signed_error", "standard_error"]
    frame = pd.DataFrame(rows, columns=columns).assign(exact=False)
    assert effects(paper.near_zero_at_one_step, frame) == {("step 1", 0): pytest.approx(0.05 - 0.1)}


def test_each_claim_about_the_search_looks_at_its_own_column():
    columns = ["training_step", "seed", "simulations", "prior", "tv", "kl", "trajectory_error", "matched_error"]
    rows = [(2000, 0, 8, "policy", 1.0, 1.0, 1.0, 1.0), (2000, 0, 8, "uniform", 2.0, 3.0, 4.0, 5.0)]
    frame = pd.DataFrame(rows, columns=columns)
    for column, expected in (("tv", 1.0), ("kl", 2.0), ("trajectory-error", 3.0), ("path-error", 4.0)):
        found = effects(named(f"prior-lowers-{column}").measure, frame)
        assert found == {("step 2,000, N = 8", 0): expected}, column


def test_what_the_prior_lowers_is_compared_at_each_n_of_trained_models():
    untrained = [(0, 0, 2, "policy", 1.0), (0, 0, 2, "uniform", 7.0)]
    rows = untrained + [
        (2000, 0, N, prior, x)
        for N, prior, x in ((2, "policy", 1.0), (2, "uniform", 4.0), (8, "policy", 5.0), (8, "uniform", 5.5))
    ]
    frame = pd.DataFrame(rows, columns=["training_step", "seed", "simulations", "prior", "kl"])
    assert effects(paper.prior_lowers("kl"), frame) == {("step 2,000, N = 2", 0): 3.0, ("step 2,000, N = 8", 0): 0.5}


def test_returns_of_planning_are_compared_by_hand():
    returns = {  # at N = 4 and N = 16
        ("true", "uniform"): (30, 60),
        ("true", "policy"): (50, 64),
        ("learned", "uniform"): (10, 20),
        ("learned", "policy"): (40, 58),
    }
    rows = [
        (100, 0, *cell, N, 0.0, x + more)
        for cell, numbers in returns.items()
        for N, x in zip((4, 16), numbers, strict=True)
        for more in (-1.0, -1.0, 2.0)  # three episodes, of which the middle one is not the mean
    ]
    rows += [(100, 0, *cell, 2, 0.0, 1e6) for cell in returns]  # where the prior decides: never compared
    rows += [(100, 0, "none", "policy", 0, 1.0, 8.0), (100, 0, "none", "policy", 0, 0.0, 33.0)]
    rows += [(100, 0, "none", "uniform", 0, 1.0, 4.0)]
    rows += [(0, *row[1:]) for row in rows]  # the untrained model, which is left out
    columns = ["training_step", "seed", "model", "prior", "simulations", "temperature", "return"]
    frame = pd.DataFrame(rows, columns=columns)
    own = frame["model"].map({"learned": "latent"}).fillna("state").where(frame["prior"] == "policy", "none")
    # The policy network where the other model stands has no say in these.
    other = frame[frame["prior"] == "policy"].assign(prior_at="elsewhere", **{"return": 1e6})
    frame = pd.concat([frame.assign(prior_at=own), other[other["model"] != "none"]], ignore_index=True)
    for name, expected in (
        ("free-search-lags", 30.0),  # 45 against 15
        ("free-search-lags-at-most-simulations", 40.0),
        ("planning-beats-prior", 50.0),
        ("planning-beats-greedy-prior", 25.0),
        ("true-model-returns-more", 6.0),
        ("prior-matters-more-in-learned-model", 22.0),  # gaps 30 and 38 against 20 and 4
        ("free-search-beats-random", 11.0),
        ("free-search-needs-more-simulations", 1.0),  # 35 is half-way from 10 to 60: at 16 and, never, at 32
        ("gap-closes-faster-in-true-model", 12.0),  # two doublings: +4 a doubling against -8
    ):
        assert effects(named(name).measure, frame) == {("step 100", 0): pytest.approx(expected)}, name


def test_an_agent_that_lacks_an_n_has_no_slope():
    frame = World(1.0).table("planning")
    lost = frame["seed"].eq(3) & frame["simulations"].eq(16) & frame["prior"].eq("uniform") & frame["model"].eq("true")
    assert judged(named("gap-closes-faster-in-true-model"), frame[~lost]).agents == 7
