"use strict";
// Draws figures and the agents of claims when they come into view, and again when a choice changes.
(() => {
  const { numbers, floats, run: readRun, ownCsv, quoted, shown, whole, save } = reading;
  const { before, inert, theme, faint, entries, linesOf, lined, matrices, layout, axis } = drawing;
  const form = document.getElementById("drawing");
  const state = { spread: "standard_error", agents: true, agent: "" };
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const names = { training_step: "Training step", policies_at: "Policies at T", leaf: "Leaf", row: "Agents" };
  const figures = [...document.querySelectorAll("article.figure")].map(begin);

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function begin(article) {
    const record = numbers.figures[Number(article.dataset.figure)];
    const find = (selector) => article.querySelector(selector);
    return {
      record,
      article,
      plots: [...article.querySelectorAll(".plot")],
      settings: find(".settings"),
      legend: find(".legend"),
      details: find("details"),
      part: record.chart.parts[0],
      chosen: {},
      toggled: new Map(), // lines that the reader switched on or off
      runs: null,
      stale: true,
    };
  }

  // Controls of a figure

  function select(label, options, value, change) {
    const box = element("select");
    box.append(...options.map(([entry, text]) => element("option", { value: entry, textContent: text })));
    box.value = value;
    box.addEventListener("change", () => change(box.value));
    return element("label", {}, `${label} `, box);
  }

  function checkbox(label, checked, change) {
    const box = element("input", { type: "checkbox", checked });
    box.addEventListener("change", () => change(box.checked));
    return element("label", {}, box, ` ${label}`);
  }

  function settings(figure) {
    const { part, record } = figure;
    const { parts } = record.chart;
    const controls = [];
    if (parts.length > 1) {
      const options = parts.map((one, i) => [i, one.title]);
      controls.push(select("Show", options, parts.indexOf(part), (i) => choosePart(figure, parts[i])));
    }
    for (const column of part.choose) {
      const options = entries(figure.runs, part, column).map((entry) => [entry, whole(entry)]);
      if (options.length > 1) {
        const change = (value) => {
          figure.chosen[column] = value;
          draw(figure);
        };
        controls.push(select(names[column] ?? column.replaceAll("_", " "), options, figure.chosen[column], change));
      }
    }
    if (part.leave_untrained) {
      const change = (checked) => {
        figure.chosen.trained = !checked;
        draw(figure);
      };
      controls.push(checkbox("untrained model (step 0)", !figure.chosen.trained, change));
    }
    if (!part.matrix) {
      for (const way of ["x", "y"]) {
        const change = (checked) => {
          figure[`${way}log`] = checked;
          draw(figure);
        };
        controls.push(checkbox(`logarithmic ${way} axis`, figure[`${way}log`], change));
      }
    }
    figure.settings.replaceChildren(...controls);
  }

  function choosePart(figure, part) {
    const before = figure.chosen;
    Object.assign(figure, { part, xlog: part.xlog, ylog: part.ylog, chosen: {} });
    figure.chosen.trained = figure.runs.some((run) => run.rows.some((row) => run.columns.training_step?.[row] > 0));
    for (const column of part.choose) {
      const known = entries(figure.runs, part, column).map(String);
      figure.chosen[column] = known.includes(before[column]) ? before[column] : (known.includes("own") ? "own" : known.at(-1));
    }
    figure.toggled.clear();
    settings(figure);
    draw(figure);
  }

  function swatch(line, colour) {
    const dash = { dot: "2 3", dash: "6 3", dashdot: "6 3 2 3", solid: "" }[line.dash] ?? line.dash.replace(/px|,/g, " ");
    const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of Object.entries({ width: 26, height: 10, "aria-hidden": "true" })) box.setAttribute(name, value);
    const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const drawn = { x1: 0, y1: 5, x2: 26, y2: 5, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash };
    for (const [name, value] of Object.entries(drawn)) stroke.setAttribute(name, value);
    box.append(stroke);
    return box;
  }

  function legend(figure, lines) {
    const colour = theme();
    const boxes = lines.map((line) => {
      const label = checkbox(line.label, !line.hidden, (checked) => {
        figure.toggled.set(line.label, checked);
        draw(figure, { keepLegend: true });
      });
      const drawn = "share" in line ? drawing.between(colour, line.share) : colour(line.colour);
      label.querySelector("input").after(swatch(line, drawn));
      return label;
    });
    const all = (on) =>
      element("button", {
        type: "button",
        textContent: on ? "all" : "none",
        onclick: () => {
          for (const line of lines) figure.toggled.set(line.label, on);
          draw(figure);
        },
      });
    figure.legend.hidden = !lines.length;
    figure.legend.replaceChildren(figure.legend.querySelector("legend"), ...boxes, ...(lines.length > 3 ? [all(true), all(false)] : []));
  }

  // Drawing

  function drawings(figure) {
    const { part, runs, chosen } = figure;
    if (part.matrix) return { lines: [], drawn: matrices(runs, part, chosen, state) };
    const lines = linesOf(runs, part, chosen).map((line) => ({
      ...line,
      hidden: !(figure.toggled.get(line.label) ?? !line.off),
    }));
    return { lines, drawn: lined(runs, part, lines, state, { x: figure.xlog, y: figure.ylog }) };
  }

  function draw(figure, { keepLegend = false } = {}) {
    if (!figure.runs) {
      figure.runs = figure.record.runs.map(readRun);
      choosePart(figure, figure.part);
      return;
    }
    figure.stale = false;
    const { lines, drawn } = drawings(figure);
    if (!keepLegend) legend(figure, lines);
    drawn.forEach(({ data, layout: of }, i) => {
      Plotly.react(figure.plots[i], data, { ...of, ...paper(drawn.length) }, config);
    });
    if (!figure.listening) listen(figure);
    if (figure.details.open) tabulate(figure, lines);
  }

  // Printed drawings need a fixed size: half of the page's width if there are two or more.
  function paper(count) {
    return state.printing ? { width: count > 1 ? 330 : 680, height: 330 } : { autosize: true };
  }

  function listen(figure) {
    figure.listening = true;
    figure.plots.forEach((plot, i) => {
      plot.on("plotly_click", ({ points }) => point(points[0].customdata, figure.article));
      plot.on("plotly_relayout", (change) => {
        const moved = Object.fromEntries(Object.entries(change).filter(([key]) => /^[xy]axis\./.test(key)));
        if (figure.following || !Object.keys(moved).length) return;
        figure.following = true;
        Promise.all(figure.plots.filter((_, k) => k !== i).map((other) => Plotly.relayout(other, moved))).finally(() => {
          figure.following = false;
        });
      });
    });
  }

  // Handles a click on a point: highlights its agent in all figures, and dispatches an event for the states section.
  function point(at, from) {
    if (!at) return;
    if (at.seed !== undefined) {
      form.elements.agent.value = state.agent = String(at.seed);
      document.getElementById("said").textContent = `agent ${at.seed} is drawn thick in all figures`;
      again();
    }
    const detail = { run: at.run, seed: at.seed ?? null, step: at.step, from: from.id };
    document.dispatchEvent(new CustomEvent("mzprobe:point", { detail }));
  }

  // Shows the numbers that are drawn as a table.
  function tabulate(figure, lines) {
    const { part, runs } = figure;
    const tables = part.matrix ? runs.map((run) => matrixTable(figure, run)) : runs.map((run, r) => lineTable(figure, run, r, lines));
    figure.details.querySelector(".scroll").replaceChildren(...tables);
  }

  function table(caption, head, rows) {
    const cell = (name, text, i) => element(name, { textContent: text, className: i ? "number" : "", ...(name === "th" && { scope: i === 0 ? "row" : "col" }) });
    const top = element("tr", {}, ...head.map((text, i) => Object.assign(cell("th", text, i), { scope: "col" })));
    const body = rows.map((row) => element("tr", {}, ...row.map((text, i) => cell(i ? "td" : "th", text, i))));
    return element("table", {}, element("caption", { textContent: caption }), element("thead", {}, top), element("tbody", {}, ...body));
  }

  function lineTable(figure, run, r, lines) {
    const { part } = figure;
    const agent = run.seeds.findIndex((seed) => String(seed) === state.agent);
    const visible = lines.filter((line) => !line.hidden);
    const x = new Set(visible.flatMap((line) => (line.level ? [] : line.rows[r].map((row) => run.columns[part.x][row]))));
    const places = [...x].sort(before);
    const text = (row) => {
      if (row === undefined) return "";
      const [low, high] = run.spread(row, state.spread);
      const own = agent >= 0 ? `; agent ${state.agent}: ${shown(run.own(agent, row))}` : "";
      const ends = Number.isNaN(low) ? "" : ` (${shown(low)} to ${shown(high)})`;
      return shown(run.columns.mean[row]) + ends + own;
    };
    const rows = places.map((place) => [
      whole(place),
      ...visible.map((line) => text(line.level ? line.rows[r][0] : line.rows[r].find((row) => run.columns[part.x][row] === place))),
    ]);
    if (!rows.length && visible.length) rows.push(["any", ...visible.map((line) => text(line.rows[r][0]))]); // only levels
    return table(`${run.name}: ${part.title}`, [part.xlabel, ...visible.map((line) => line.label)], rows);
  }

  function matrixTable(figure, run) {
    const { part, chosen, runs } = figure;
    const [x, y] = [part.x, part.by].map((column) => entries(runs, part, column, chosen));
    const at = new Map(drawing.rowsOf(run, part, chosen).map((row) => [`${run.columns[part.by][row]} ${run.columns[part.x][row]}`, row]));
    const agent = part.matrix === "ratio" ? -1 : run.seeds.findIndex((seed) => String(seed) === state.agent);
    const text = (row) => (row === undefined ? "" : shown(agent < 0 ? run.columns[part.matrix][row] : run.own(agent, row)));
    const rows = y.map((row) => [whole(row), ...x.map((column) => text(at.get(`${row} ${column}`)))]);
    const whose = agent < 0 ? "" : `, agent ${state.agent}`;
    return table(`${run.name}: ${part.title}${whose}`, ["X \\ Y", ...x.map(whole)], rows);
  }

  // Files

  function picture(figure, i) {
    draw(figure);
    document.documentElement.classList.add("paper");
    const { data, layout: of } = drawings(figure).drawn[i];
    document.documentElement.classList.remove("paper");
    const [{ heading }, name] = [figure.record.chart, figure.record.runs[i].run];
    const title = { text: inert(`${name}: ${heading}; ${figure.part.title}`), font: { size: 14 }, x: 0.02, xanchor: "left" };
    const legend = { orientation: "h", y: -0.25, font: { size: 11 } };
    const more = { title, legend, showlegend: !figure.part.matrix, margin: { l: 60, r: 20, t: 50, b: 50 } };
    return Plotly.toImage({ data, layout: { ...of, ...more } }, { format: "svg", width: 800, height: 520 });
  }

  document.getElementById("figures").addEventListener("click", async (event) => {
    const button = event.target.closest(".figure > .buttons button");
    if (!button) return;
    const figure = figures.find(({ article }) => article.contains(button));
    const i = Number(button.dataset.run);
    const record = figure.record.runs[i];
    const name = `${record.run}-${figure.record.name}`;
    if (button.classList.contains("csv")) save(`${name}.csv`, record.csv, "text/csv");
    if (button.classList.contains("own")) save(`${name}-agents.csv`, ownCsv(record), "text/csv");
    if (button.classList.contains("svg")) {
      const image = await picture(figure, i);
      save(`${name}.svg`, decodeURIComponent(image.slice(image.indexOf(",") + 1)), "image/svg+xml");
    }
  });

  // Claims

  function effectsOf(claim) {
    const record = numbers.claims[numbers.runs.indexOf(claim.dataset.run)][Number(claim.dataset.claim)];
    if (!record) return null;
    const [own, overall, ends] = [record.own, record.overall, record.ends].map(floats);
    return { ...record, own, overall, ends, of: (agent, cell) => own[agent * record.cells.length + cell] };
  }

  function openClaim(claim) {
    const effects = effectsOf(claim);
    if (!effects) return;
    drawEffects(claim, effects);
    const few = effects.cells.length <= 12 ? effects.cells : [];
    const overall = effects.cells.length > 1 ? [claim.querySelector(".more p").textContent.includes("every cell") ? "least" : "mean"] : [];
    const rows = effects.seeds.map((seed, agent) => [
      `agent ${seed}`,
      ...overall.map(() => shown(effects.overall[agent])),
      ...few.map((_, cell) => shown(effects.of(agent, cell))),
    ]);
    const caption = few.length ? "Effect of each agent" : `Effect of each agent; its ${effects.cells.length} cells are in the CSV`;
    claim.querySelector(".agents").replaceChildren(table(caption, ["Agent", ...overall, ...few], rows));
    claim.querySelector("button.effects").onclick = () => save(`${claim.dataset.run}-${nameOf(claim)}.csv`, effectsCsv(effects), "text/csv");
  }

  const nameOf = (claim) => claim.querySelector("th .dim").textContent.split(",")[0];

  function effectsCsv(effects) {
    const lines = effects.seeds.flatMap((seed, agent) =>
      effects.cells.map((cell, i) => {
        const effect = effects.of(agent, i);
        return [quoted(cell), seed, Number.isNaN(effect) ? "" : effect].join(",");
      }),
    );
    return ["cell,seed,effect", ...lines, ""].join("\n");
  }

  function drawEffects(claim, effects) {
    const colour = theme();
    const { cells, seeds, ends } = effects;
    const agents = { x: [], y: [], text: [], customdata: [] };
    seeds.forEach((seed, agent) => {
      cells.forEach((cell, i) => {
        const effect = effects.of(agent, i);
        if (Number.isNaN(effect)) return;
        agents.x.push(i + (seeds.length > 1 ? 0.3 * (agent / (seeds.length - 1) - 0.5) : 0));
        agents.y.push(effect);
        agents.text.push(`<b>agent ${seed}</b><br>${inert(cell)}<br>effect ${shown(effect)}`);
        agents.customdata.push({ seed, run: claim.dataset.run, step: null });
      });
    });
    const mean = cells.map((_, i) => ends[3 * i]);
    const [low, high] = [1, 2].map((k) => cells.map((_, i) => Math.abs(ends[3 * i + k] - ends[3 * i]) || 0));
    const own = { color: faint(colour("blue"), 0.55), size: 6 };
    const data = [
      { type: "scatter", mode: "markers", ...agents, marker: own, hovertemplate: "%{text}<extra></extra>" },
      {
        type: "scatter",
        mode: "markers",
        x: cells.map((_, i) => i),
        y: mean,
        error_y: { type: "data", symmetric: false, array: high, arrayminus: low, color: colour("orange"), width: 4 },
        marker: { color: colour("orange"), symbol: "diamond", size: 9 },
        text: cells.map((cell, i) => `<b>mean</b><br>${inert(cell)}<br>effect ${shown(mean[i])}, ${shown(ends[3 * i + 1])} to ${shown(ends[3 * i + 2])}`),
        hovertemplate: "%{text}<extra></extra>",
      },
    ];
    const every = Math.ceil(cells.length / 12);
    const tickvals = cells.map((_, i) => i).filter((i) => i % every === 0);
    const strip = claim.querySelector(".strip");
    const ticktext = tickvals.map((i) => inert(cells[i]));
    const tilted = 8 * ticktext.join("").length > 0.8 * strip.clientWidth;
    const xaxis = { ...axis(colour, "", false), tickvals, ticktext, tickangle: tilted ? 40 : 0, zeroline: false };
    const yaxis = { ...axis(colour, "Effect", false), zeroline: true, zerolinecolor: colour("dim"), zerolinewidth: 1.5 };
    const margin = { l: 68, r: tilted ? 60 : 14, t: 12, b: tilted ? 90 : 30 };
    Plotly.react(strip, data, layout(colour, {}, { xaxis, yaxis, margin, ...paper(1) }), config);
    if (!strip.dataset.heard) strip.on("plotly_click", ({ points }) => point(points[0].customdata, claim));
    strip.dataset.heard = "yes";
  }

  // The page

  function again() {
    for (const figure of figures) figure.stale = true;
    for (const figure of figures) if (figure.visible) draw(figure);
  }

  function redrawAll() {
    for (const figure of figures) draw(figure);
    for (const button of document.querySelectorAll(".open[aria-expanded=true]")) openClaim(button.closest("tbody"));
  }

  const seeds = new Set(numbers.figures.flatMap(({ runs }) => runs.flatMap((run) => run.seeds)));
  const sorted = [...seeds].sort((one, other) => one - other);
  form.elements.agent.append(...sorted.map((seed) => element("option", { value: String(seed), textContent: `agent ${seed}` })));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    state.spread = form.elements.spread.value;
    state.agents = form.elements.agents.checked;
    state.agent = form.elements.agent.value;
    again();
  });
  for (const figure of figures) figure.details.addEventListener("toggle", () => figure.details.open && draw(figure));
  const watcher = new IntersectionObserver(
    (changes) => {
      for (const { target, isIntersecting } of changes) {
        const figure = figures.find(({ article }) => article === target);
        figure.visible = isIntersecting;
        if (isIntersecting && figure.stale) draw(figure);
      }
    },
    { rootMargin: "300px" },
  );
  for (const { article } of figures) watcher.observe(article);
  document.addEventListener("mzprobe:claim", ({ detail }) => openClaim(detail));
  for (const button of document.querySelectorAll(".open[aria-expanded=true]")) openClaim(button.closest("tbody"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      state.printing = printing;
      document.documentElement.classList.toggle("paper", printing);
      redrawAll();
      if (!printing) for (const plot of document.querySelectorAll(".plot, .strip[data-heard]")) Plotly.Plots.resize(plot);
    });
  }
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
})();
