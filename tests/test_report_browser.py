"""A report as its reader has it: in a browser, by mouse and by keys, on a telephone, in the dark, without a network."""

import io
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_pages import states_of, store_run, tables
from stored_tables import store

from mzprobe.figures import PLANS
from mzprobe.probes.inspect import measure_inspect
from mzprobe.report import write_report
from mzprobe.report.states import short
from mzprobe.settings import InspectConfig
from mzprobe.sources import open_agent
from mzprobe.tables import find_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: Debian's package is called chromium"),
]
pytest.importorskip("plotly", reason="the extra `report` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

ROOT = Path(__file__).parent.parent
AGENTS = 30
LIMIT = 10_000_000  # bytes of a page
SECONDS = 2.0  # until it can be used


def many_agents(analyses):
    """Stores a run of 30 agents: those of the shipped study at a few of their states, each three times with noise."""
    generator = np.random.default_rng(0)
    for plan in PLANS:
        table = find_run(ROOT / "analyses", "cartpole-ten", plan.probe)
        if table is None:
            continue
        frame = table.frame
        for few in {"state", "episode"} & set(frame.columns):
            frame = frame[frame[few] < frame[few].min() + 8]
        numbers = [name for name in ("return", "error", "rank_error", "probability") if name in frame]
        of = []
        for seed in range(AGENTS):
            own = frame[frame["seed"] == seed % 10].assign(seed=seed)
            of.append(own.assign(**{name: own[name] * generator.uniform(0.8, 1.0) for name in numbers}))
        store(analyses, pd.concat(of), probe=plan.probe, run="thirty")
    steps = find_run(ROOT / "analyses", "cartpole-ten", "online").frame["training_step"].unique()
    store(analyses, many_states(range(AGENTS), steps), probe="inspect", run="thirty")


def many_states(seeds, steps):
    """States of a shipped agent, of whole size, as of many agents and steps, each with noise of its own."""
    agent = open_agent(ROOT / "checkpoints" / "cartpole-paper" / "seed-200", step=2000)
    one = measure_inspect(agent, InspectConfig(states=6, episodes=2, rollouts=2, steps=10))
    generator = np.random.default_rng(1)
    floats = ["q", "leaf_value", "predicted_reward", "predicted_value", "latent_distance", "true_return"]
    return pd.concat(
        one.assign(
            seed=seed,
            training_step=step,
            **{name: one[name] * generator.uniform(0.8, 1.0, len(one)) for name in floats},
        )
        for seed in seeds
        for step in steps
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Paths of reports: of the shipped study, of 30 agents, of two runs, and of one with a name that is an element."""
    folder, shipped = tmp_path_factory.mktemp("reports"), ROOT / "analyses"
    made = {"shipped": write_report(["cartpole-ten"], analyses=shipped, folder=folder / "shipped")}
    store(folder, find_run(shipped, "cartpole-ten", "online").frame, probe="online", run="few")
    made["few"] = write_report(["few"], analyses=folder, folder=folder / "few-page")
    many_agents(folder)
    made["thirty"] = write_report(["thirty"], analyses=folder, folder=folder / "thirty")
    store_run(folder, agents=3)
    runs = ["made", "<script>window.hacked = 1<script>"]
    store_run(folder, run=runs[1], effect=-1.0, agents=4)
    attack = '"><img src="x" onerror="window.hacked = 2">'
    hostile = (
        f'<svg xmlns="http://www.w3.org/2000/svg" onload="window.hacked = 3"><script>window.hacked = 4</script>{attack}'
    )
    frame = states_of(tables(agents=3)["online"])
    store(folder, frame, probe="inspect")
    frame = frame.assign(meaning=attack, chosen=attack, picture=frame["picture"].map(lambda text: text and hostile))
    store(folder, frame, probe="inspect", run=runs[1])
    made["two"] = write_report(runs, analyses=folder, folder=folder / "two")
    return {name: Path(drawn.what) for name, drawn in made.items()}


@pytest.fixture(scope="module")
def browser():
    """Without its sandbox, which root cannot have."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, pages):
    """Opens a report; at the end nothing was asked of a network, and nothing was said in the console."""
    contexts, said = [], []

    def open_page(name, *, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("requestfailed", lambda request: said.append(request.url))
        address = pages[name].as_uri()
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "data:", "blob:")) else said.append(request.url),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def drawn(page, figure, *, at=0):
    """The traces of a figure once it is drawn."""
    plot = page.locator(f"#figure-{figure} .plot").nth(at)
    plot.scroll_into_view_if_needed()
    plot.locator(".main-svg").first.wait_for()
    return plot.evaluate("plot => plot.data.map(({ name, x, y, mode }) => ({ name, x, y, mode }))")


def saved(page, click):
    """The text of the file that a click saves."""
    with page.expect_download() as download:
        page.locator(click).first.click()
    return Path(download.value.path()).read_text("utf-8")


@pytest.mark.parametrize("name", ["shipped", "thirty"])
def test_a_page_is_small_and_can_be_used_soon(pages, opened, browser, name):
    assert pages[name].stat().st_size < LIMIT
    page = opened(name)
    assert page.evaluate("document.documentElement.dataset.ready") == "yes"
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # of a processor, whatever else it does
    page.reload()
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < metrics["ThreadTime"] < SECONDS


@pytest.mark.parametrize("name", ["shipped", "thirty"])
def test_every_claim_opens_its_agents_and_leads_to_its_figure(opened, name):
    page = opened(name)
    page.click("#open-claims")
    rows = page.locator("tbody.claim")
    assert page.locator("tr.more:visible").count() == rows.count() > 30
    with_data = page.locator("tbody.claim:has(.strip)")
    assert page.locator(".strip .main-svg:first-child").count() >= with_data.count() > 25
    agents = page.locator("tbody.claim .agents tbody").first.locator("tr").count()
    assert agents == (AGENTS if name == "thirty" else 10)
    links = page.locator(".more a.button")
    for target in set(links.evaluate_all("links => links.map((link) => link.hash)")):
        assert page.locator(target).count() == 1
    page.locator("#claim-0 a.button").click()
    assert page.evaluate("location.hash") == "#figure-fig2-online"


def test_claims_are_sorted_and_filtered(opened):
    page = opened("two")
    numbers = "rows => rows.filter((row) => !row.hidden).map((row) => Number(row.dataset.p))"
    page.click("button[data-sort=p]")
    rising = [p for p in page.locator("tbody.claim").evaluate_all(numbers) if p is not None]
    assert rising == sorted(rising)
    page.click("button[data-sort=p]")
    falling = [p for p in page.locator("tbody.claim").evaluate_all(numbers) if p is not None]
    assert falling == sorted(rising, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("p")
    page.uncheck("#claim-filter input[value=undecided]")
    page.fill("#claim-filter input[name=words]", "horizon")
    visible = page.locator("tbody.claim:visible")
    assert all("horizon" in text.lower() for text in visible.locator("th").all_inner_texts())
    assert page.inner_text("#claim-count") == f"{visible.count()} of {page.locator('tbody.claim').count()} shown"


def test_the_csv_and_the_drawing_have_the_numbers_of_the_table(opened):
    page = opened("shipped")
    traces = drawn(page, "fig2-online")
    text = saved(page, "#figure-fig2-online .csv")
    assert text == (ROOT / "figures" / "cartpole-ten" / "fig2-online.csv").read_text("utf-8")
    cells = pd.read_csv(io.StringIO(text), comment="#")
    acted = cells[cells["policy"] == "behaviour"]
    (mean,) = (trace for trace in traces if trace["name"] == "MCTS (behaviour policy)")
    assert (mean["x"], mean["y"]) == (acted["training_step"].tolist(), acted["mean"].tolist())
    own = pd.read_csv(io.StringIO(saved(page, "#figure-fig2-online .own")), comment="#")
    frame = find_run(ROOT / "analyses", "cartpole-ten", "online").frame
    by = ["policy", "training_step", "seed"]
    expected = frame.groupby(by)["return"].mean()
    pd.testing.assert_series_equal(own.set_index(by)["mean"].sort_index(), expected, check_names=False, rtol=1e-15)


def test_the_agents_effects_are_saved_too(opened):
    page = opened("shipped")
    page.locator("#claim-0 button.open").click()
    effects = pd.read_csv(io.StringIO(saved(page, "#claim-0 .effects")))
    assert (len(effects), effects.columns.tolist()) == (80, ["cell", "seed", "effect"])
    shown = float(page.locator("#claim-0").get_attribute("data-effect"))
    assert effects["effect"].mean() == pytest.approx(shown)


def test_a_drawing_is_saved_as_svg(opened):
    page = opened("two")
    drawn(page, "fig3-horizon")
    picture = ElementTree.fromstring(saved(page, "#figure-fig3-horizon .svg"))
    texts = {"".join(node.itertext()) for node in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"h = 1", "Training steps", "Value prediction error (discounted reward)"} <= texts


def test_a_switch_changes_band_axis_agents_and_lines(opened):
    page = opened("shipped")
    before = drawn(page, "fig2-online")
    agents = [trace for trace in before if trace["name"] is None and None in trace["x"]]
    assert len(agents) == 3  # one for each policy
    band = before[0]["y"]
    page.select_option("#drawing select[name=spread]", "interval")
    assert drawn(page, "fig2-online")[0]["y"] != band
    page.select_option("#drawing select[name=spread]", "none")
    page.uncheck("#drawing input[name=agents]")
    assert len(drawn(page, "fig2-online")) == 3
    page.select_option("#drawing select[name=agent]", "1")
    assert len(drawn(page, "fig2-online")) == 6
    page.locator("#figure-fig2-online .legend input").first.uncheck()
    assert len(drawn(page, "fig2-online")) == 4
    page.locator("#figure-fig2-online .settings input").last.check()
    kind = page.locator("#figure-fig2-online .plot").evaluate("plot => plot.layout.yaxis.type")
    assert kind == "log"


def test_every_drawing_of_every_figure_shows_something(opened):
    page = opened("thirty")
    for figure in page.locator("article.figure").all():
        name = figure.get_attribute("id").removeprefix("figure-")
        parts = figure.locator(".settings label:has-text('Show') select")
        drawn(page, name)
        choices = parts.locator("option").count() if parts.count() else 1
        for choice in range(choices):
            if parts.count():
                parts.select_option(index=choice)
            points = figure.locator(".plot").evaluate(
                "plot => plot.data.flatMap((trace) => (trace.z ?? [trace.y]).flat()).length"
            )
            assert points > 0, (name, choice)


def test_hovering_says_agent_step_and_number(opened):
    page = opened("shipped")
    texts = drawn(page, "fig3-horizon") and page.locator("#figure-fig2-online .plot")
    texts.scroll_into_view_if_needed()
    texts.locator(".main-svg").first.wait_for()
    said = texts.evaluate("plot => plot.data.find((trace) => trace.name === undefined && trace.text).text[1]")
    frame = find_run(ROOT / "analyses", "cartpole-ten", "online").frame
    own = frame[(frame["seed"] == 0) & (frame["training_step"] == 500) & (frame["policy"] == "behaviour")]
    number = f"{own['return'].mean():.4g}"
    assert said == f"<b>agent 0</b>, MCTS (behaviour policy)<br>training step 500<br>{number}"


def click_on_an_agent(page):
    """Clicks on the highest point of an agent at step 1,000 in Figure 2, which no other covers; what that told."""
    drawn(page, "fig2-online")
    page.evaluate("document.addEventListener('mzprobe:point', (event) => { window.point = event.detail; })")
    where = page.locator("#figure-fig2-online .plot").evaluate(
        """plot => { const { left, top } = plot.getBoundingClientRect(), of = plot._fullLayout;
        const trace = plot.data.find((one) => one.name === undefined && one.text);
        const at = trace.x.map((x, i) => i).filter((i) => trace.x[i] === 1000);
        const peak = at.reduce((a, b) => (trace.y[b] > trace.y[a] ? b : a));
        const [x, y] = [of.xaxis.d2p(trace.x[peak]), of.yaxis.d2p(trace.y[peak])];
        return [left + of.xaxis._offset + x, top + of.yaxis._offset + y]; }"""
    )
    page.mouse.move(*where)
    page.mouse.click(*where)
    page.wait_for_function("window.point?.seed !== null && window.point !== undefined")
    return page.evaluate("window.point")


def test_a_click_on_a_point_draws_its_agent_and_tells_its_step(opened):
    page = opened("shipped")
    point = click_on_an_agent(page)
    assert (point["run"], point["step"]) == ("cartpole-ten", 1000)
    assert page.locator("#drawing select[name=agent]").input_value() == str(point["seed"])


def test_a_click_on_a_point_shows_the_states_of_its_agent_and_step_and_leads_back(opened, pages):
    page = opened("thirty")
    point = click_on_an_agent(page)
    page.locator(f"#state-shown[data-shown='{point['seed']} 1000']").wait_for()
    assert page.locator("#state-shown h3").inner_text() == f"Agent {point['seed']} at training step 1,000"
    assert page.evaluate("document.activeElement.id") == "states-title"
    frame = find_run(pages["thirty"].parent.parent, "thirty", "inspect").frame
    own = frame[(frame["seed"] == point["seed"]) & (frame["training_step"] == 1000)]
    first = own[own["state"] == own["state"].iloc[0]]
    state = page.locator(".state").first
    assert state.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    likeliest = first[first["part"] == "likeliest"].iloc[1:]
    shown = state.locator("table").first.locator("tbody tr td:nth-child(4)").all_inner_texts()
    assert shown == [str(short(number)) for number in likeliest["predicted_reward"]]
    below = first[(first["part"] == "learned") & (first["depth"] == 1)]
    nodes = state.locator(".tree").first.locator(":scope > li > details > ul > li").all()
    for node, row in zip(nodes, below.to_dict("records"), strict=True):
        said = node.locator("summary, :scope > span").first.inner_text()
        tried = f"N {row['visits']:.0f}, Q {short(row['q'])}" if row["visits"] else "not tried"
        assert said.startswith(f"{row['meaning']}: {tried}, P {short(row['prior'])}, ")
        assert f"true return {short(row['true_return'])} ± " in said
    page.click("#state-back")
    assert page.evaluate("location.hash") == "#figure-fig2-online"


def test_states_are_chosen_and_their_trees_unfolded_by_keys(opened):
    page = opened("thirty")
    page.locator("#state-choice select[name=seed]").focus()
    page.keyboard.press("ArrowDown")
    page.locator("#state-shown[data-shown='1 10000']").wait_for()
    summary = page.locator(".tree details details > summary").first
    nodes = page.locator(".tree").first.locator("li:visible").count()
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator(".tree").first.locator("li:visible").count() > nodes


def test_a_point_whose_states_were_not_kept_says_so_and_a_page_without_any_has_no_section(opened):
    page = opened("thirty")
    detail = "{ detail: { run: 'thirty', seed: 77, step: 3, from: 'claims' } }"
    page.evaluate(f"document.dispatchEvent(new CustomEvent('mzprobe:point', {detail}))")
    assert page.locator("#state-said").inner_text() == "no states of agent 77 at step 3 are kept"
    assert opened("few").locator("#states").count() == 0


def test_drawings_and_words_of_states_run_no_code(opened):
    page = opened("two")
    page.select_option("#state-choice select[name=run]", "1")
    page.locator("#state-shown h4", has_text="onerror").first.wait_for()
    assert page.locator("#states img").count() == page.locator("#states img[src^='data:image/svg+xml,']").count()
    assert page.evaluate("window.hacked") is None


def test_two_runs_have_the_same_axes_and_the_name_of_one_is_text(opened):
    page = opened("two")
    for figure in ("fig2-online", "fig3-horizon", "fig7-planning"):
        drawn(page, figure, at=1)
        ranges = page.locator(f"#figure-{figure} .plot").evaluate_all(
            "plots => plots.map(({ layout }) => [layout.xaxis.range, layout.yaxis.range])"
        )
        assert ranges[0] == ranges[1]
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").inner_text() == "made and <script>window.hacked = 1<script>"


def test_a_point_of_any_run_says_whose_it_is(opened):
    page = opened("two")
    for figure in ("fig2-online", "fig5-cross"):
        drawn(page, figure, at=1)
        said = page.locator(f"#figure-{figure} .plot").evaluate_all(
            "plots => plots.map(({ data }) => data.flatMap(({ customdata = [] }) => customdata.flat())"
            ".filter((at) => at).map(({ run }) => run))"
        )
        assert [set(runs) for runs in said] == [{"made"}, {"<script>window.hacked = 1<script>"}]


def test_a_logarithmic_axis_does_not_go_down_to_rounding(opened):
    page = opened("shipped")
    drawn(page, "fig4-sequences")
    page.select_option("#figure-fig4-sequences .settings label:has-text('Show') select", label="Probability by rank")
    axis = page.locator("#figure-fig4-sequences .plot").evaluate("plot => plot.layout.yaxis")
    assert axis["type"] == "log"
    assert axis["range"][1] - axis["range"][0] < 7


def test_levels_are_lines_where_no_other_is_shown(opened):
    page = opened("shipped")
    lines = {trace["name"]: trace for trace in drawn(page, "fig7-planning") if trace["name"]}
    levels = [name for name, trace in lines.items() if trace["mode"] == "lines"]
    places = page.locator("#figure-fig7-planning .plot").evaluate("plot => plot.layout.xaxis.range")
    for box in page.locator("#figure-fig7-planning .legend label").all():
        if box.inner_text().strip() not in levels:
            box.locator("input").uncheck()
    alone = [trace for trace in drawn(page, "fig7-planning") if trace["name"]]
    assert {trace["name"] for trace in alone} == set(levels)
    assert all(trace["x"][0] < trace["x"][-1] for trace in alone)
    assert page.locator("#figure-fig7-planning .plot").evaluate("plot => plot.layout.xaxis.range") == places


def test_keys_are_enough(opened):
    page = opened("shipped")
    page.locator("#claim-0 button.open").focus()
    page.keyboard.press("Enter")
    assert page.locator("#claim-0-more").is_visible()
    drawn(page, "fig2-online")
    page.locator("#figure-fig2-online .legend input").first.focus()
    page.keyboard.press("Space")
    assert len([trace for trace in drawn(page, "fig2-online") if trace["name"]]) == 2
    page.locator("#figure-fig2-online summary").focus()
    page.keyboard.press("Enter")
    heads = page.locator("#figure-fig2-online .numbers thead th")
    heads.first.wait_for()  # the table is made once it is opened
    assert heads.all_inner_texts() == ["Training steps", "policy prior, sampled", "policy prior, greedy"]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_rules_of_accessibility_are_kept_at_any_width(opened, width, scheme):
    page = opened("two", width=width, color_scheme=scheme)
    page.locator("#claim-0 button.open").click()
    for figure in page.locator("article.figure").all():
        drawn(page, figure.get_attribute("id").removeprefix("figure-"))
    page.locator("#figure-fig2-online summary").click()
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    back = page.locator("#figure-fig2-online .plot").first.evaluate("plot => plot.layout.paper_bgcolor")
    assert back == ("#14161a" if scheme == "dark" else "#fff")


def test_a_printed_page_has_every_figure_in_light_colours(opened):
    page = opened("shipped", color_scheme="dark")
    page.evaluate(
        """addEventListener("beforeprint", () => { window.printed = [...document.querySelectorAll(".plot")].map(
        (plot) => [plot.layout.paper_bgcolor, plot.layout.width]); })"""
    )
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.evaluate("window.printed") == [["#fff", 680]] * page.locator(".plot").count()
    page.wait_for_function("document.querySelector('.plot').layout.paper_bgcolor === '#14161a'")
