"use strict";
// Turns the choices of a figure into traces and layouts for Plotly.
const drawing = (() => {
  const { shown, whole } = reading;

  const MANY = 60; // largest number of points of a line with markers
  const FEW = 6; // largest number of lines with which agents are drawn; with more they would hide the lines
  const DEEPEST = 1e6; // largest ratio of a logarithmic axis's top to its bottom; smaller numbers are rounding

  // Escapes text from tables, since Plotly interprets some tags.
  const inert = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function theme() {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(`--${name}`).trim();
  }

  function rgb(hex) {
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }

  function faint(hex, share) {
    return `rgba(${rgb(hex).join(",")},${share})`;
  }

  // Interpolates between three colours, for lines in an order.
  function between(colour, share) {
    const stops = ["from", "middle", "to"].map((name) => rgb(colour(name)));
    const at = Math.min(Math.floor(share * 2), 1);
    const mixed = stops[at].map((one, i) => Math.round(one + (stops[at + 1][i] - one) * (share * 2 - at)));
    return `#${mixed.map((one) => one.toString(16).padStart(2, "0")).join("")}`;
  }

  const before = (one, other) => (typeof one === "number" ? one - other : String(one).localeCompare(other));

  const same = (entry, wanted) => entry !== null && String(entry) === String(wanted);

  function rowsOf(run, part, chosen, where = {}) {
    const asked = Object.entries({ ...part.where, ...where });
    return run.rows.filter(
      (row) =>
        asked.every(([column, entry]) => run.columns[column] && same(run.columns[column][row], entry)) &&
        part.same.every((column) => run.columns[column][row] === run.columns[part.same[0]][row]) &&
        part.choose.every((column) => !(column in chosen) || same(run.columns[column][row], chosen[column])) &&
        !(part.leave_untrained && chosen.trained && run.columns.training_step[row] === 0) &&
        run.columns.mean[row] !== null,
    );
  }

  function entries(runs, part, column, chosen = {}) {
    const found = new Set();
    for (const run of runs) for (const row of rowsOf(run, part, chosen)) found.add(run.columns[column][row]);
    return [...found].sort(before);
  }

  // Returns the lines of a part, each with its rows in every run, sorted along x.
  function linesOf(runs, part, chosen) {
    const by = part.by ? entries(runs, part, part.by, chosen) : [];
    const lines = part.by
      ? by.map((entry, i) => ({
          label: part.named.replace("{}", whole(entry)),
          where: { [part.by]: entry },
          share: by.length > 1 ? i / (by.length - 1) : 1,
          dash: "solid",
          symbol: "circle",
          level: false,
          off: part.last_only && i < by.length - 1,
        }))
      : part.lines.map((line) => ({ ...line, off: false }));
    const full = lines.map((line) => ({
      ...line,
      rows: runs.map((run) => {
        const x = run.columns[part.x];
        return rowsOf(run, part, chosen, line.where).sort((one, other) => before(x[one], x[other]));
      }),
    }));
    return full.filter((line) => line.rows.some((rows) => rows.length));
  }

  // Returns the range of the data: along x of all lines, so that a level alone has an axis, along y of visible ones.
  function extent(runs, lines, part, state, logs) {
    const ends = { x: [Infinity, -Infinity], y: [Infinity, -Infinity] };
    const add = (axis, number) => {
      if (!Number.isFinite(number) || (logs[axis] && number <= 0)) return;
      ends[axis] = [Math.min(ends[axis][0], number), Math.max(ends[axis][1], number)];
    };
    runs.forEach((run, r) => {
      for (const line of lines) {
        for (const row of line.rows[r]) {
          if (!line.level) add("x", run.columns[part.x][row]);
          if (line.hidden) continue;
          add("y", run.columns.mean[row]);
          const [low, high] = run.spread(row, state.spread);
          add("y", high);
          if (!logs.y) add("y", low); // on a logarithmic axis it may be mere rounding
          if (state.agents && !line.level) run.seeds.forEach((_, agent) => add("y", run.own(agent, row)));
        }
      }
    });
    if (logs.y) ends.y[0] = Math.max(ends.y[0], ends.y[1] / DEEPEST);
    return ends;
  }

  function range([low, high], log, zero) {
    if (low > high) return log ? [-1, 1] : [0, 1];
    if (log) {
      const [from, to] = [Math.log10(low), Math.log10(high)];
      const room = 0.04 * (to - from) || 0.1;
      return [from - room, to + room];
    }
    const room = 0.04 * (high - low) || Math.abs(high) * 0.05 || 0.5;
    return [zero && low >= 0 ? 0 : low - room, high + room];
  }

  function said(run, row, part, line, x) {
    const step = run.columns.training_step?.[row];
    const at = part.x === "training_step" ? [] : [`training step ${whole(step)}`];
    const place = part.x === "training_step" ? `training step ${whole(x)}` : `${part.xlabel}: ${whole(x)}`;
    return [...(step === undefined ? [] : at), ...(line.level ? [] : [place])].map(inert).join("<br>");
  }

  function meanText(run, row, part, line) {
    const cell = run.columns;
    const [low, high] = run.spread(row, "interval");
    const error = cell.standard_error[row] === null ? "" : ` ± ${shown(cell.standard_error[row])}`;
    const ends = Number.isNaN(low) ? "" : `<br>95 % bootstrap ${shown(low)} to ${shown(high)}`;
    const agents = `mean of ${cell.agents[row]} agent${cell.agents[row] === 1 ? "" : "s"}`;
    return `<b>${inert(line.label)}</b><br>${said(run, row, part, line, cell[part.x][row])}<br>${agents}: ${shown(cell.mean[row])}${error}${ends}`;
  }

  // Returns the traces of one line: band, agents, the highlighted agent, mean.
  function traces(run, r, part, line, state, look) {
    const rows = line.rows[r];
    if (!rows.length) return [];
    const at = line.level ? look.across.map((place) => [rows[0], place]) : rows.map((row) => [row, run.columns[part.x][row]]);
    const x = at.map(([, place]) => place);
    const common = { type: "scatter", legendgroup: line.label };
    const quiet = { ...common, showlegend: false, hoverinfo: "skip" };
    const found = [];
    const band = at.map(([row, place]) => [place, ...run.spread(row, state.spread)]).filter(([, low]) => !Number.isNaN(low));
    if (band.length > 1) {
      const low = band.map(([, end]) => (look.ylog ? Math.max(end, look.floor) : end));
      found.push({
        ...quiet,
        mode: "lines",
        x: [...band.map(([place]) => place), ...band.map(([place]) => place).reverse()],
        y: [...band.map(([, , end]) => end), ...low.reverse()],
        fill: "toself",
        fillcolor: faint(line.colour, 0.2),
        line: { width: 0 },
      });
    } else if (band.length === 1) {
      found.push({ ...quiet, mode: "lines", x: [band[0][0], band[0][0]], y: band[0].slice(1), line: { color: line.colour } });
    }
    if (state.agents && !line.level && run.seeds.length > 1) found.push(agentsTrace(run, rows, part, line, common));
    const thick = run.seeds.findIndex((seed) => String(seed) === state.agent);
    if (thick >= 0 && !line.level) {
      found.push({
        ...quiet,
        mode: "lines+markers",
        x,
        y: rows.map((row) => run.own(thick, row)),
        line: { color: look.colour("agent"), width: 2, dash: line.dash },
        marker: { color: line.colour, size: 6, line: { color: look.colour("agent"), width: 1.5 } },
      });
    }
    found.push({
      ...common,
      name: inert(line.label),
      mode: line.level ? "lines" : "lines+markers",
      x,
      y: at.map(([row]) => run.columns.mean[row]),
      line: { color: line.colour, dash: line.dash, width: 2 },
      marker: { color: line.colour, symbol: line.symbol, size: rows.length > MANY ? 2 : 6 },
      text: at.map(([row]) => meanText(run, row, part, line)),
      customdata: at.map(([row]) => ({ run: run.name, step: run.columns.training_step?.[row] ?? null })),
      hovertemplate: "%{text}<extra></extra>",
    });
    return found;
  }

  // Returns all agents of a line as one trace, with gaps between them.
  function agentsTrace(run, rows, part, line, common) {
    const [x, y, text, customdata] = [[], [], [], []];
    run.seeds.forEach((seed, agent) => {
      for (const row of rows) {
        const [place, number] = [run.columns[part.x][row], run.own(agent, row)];
        x.push(place);
        y.push(Number.isNaN(number) ? null : number);
        text.push(`<b>agent ${seed}</b>, ${inert(line.label)}<br>${said(run, row, part, line, place)}<br>${shown(number)}`);
        customdata.push({ run: run.name, seed, step: run.columns.training_step?.[row] ?? null });
      }
      x.push(null);
      y.push(null);
      text.push("");
      customdata.push(null);
    });
    const colour = faint(line.colour, 0.5);
    return {
      ...common,
      showlegend: false,
      mode: rows.length > MANY ? "lines" : "lines+markers",
      x,
      y,
      text,
      customdata,
      line: { color: colour, width: 1, dash: line.dash },
      marker: { color: colour, size: 3 },
      hovertemplate: "%{text}<extra></extra>",
    };
  }

  function axis(look, title, log) {
    return {
      title: { text: inert(title), font: { size: 12 }, standoff: 8 },
      type: log ? "log" : "linear",
      gridcolor: look("grid"),
      linecolor: look("rule"),
      zerolinecolor: look("rule"),
      tickfont: { size: 11 },
      exponentformat: "power",
    };
  }

  function layout(colour, part, more) {
    return {
      paper_bgcolor: colour("back"),
      plot_bgcolor: colour("back"),
      font: { family: "system-ui, sans-serif", color: colour("text") },
      margin: { l: 68, r: 14, t: 12, b: 48 },
      hovermode: "closest",
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("dim"), font: { color: colour("text") }, align: "left" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      showlegend: false,
      ...more,
    };
  }

  // Returns the places along x at which lines have points.
  function measured(runs, lines, part) {
    const places = new Set();
    runs.forEach((run, r) => {
      for (const line of lines) if (!line.level) for (const row of line.rows[r]) places.add(run.columns[part.x][row]);
    });
    return [...places].sort(before);
  }

  // Returns at most ten ticks, each at one of the places.
  function ticks(places) {
    const every = Math.max(1, Math.ceil(places.length / 10));
    const kept = places.filter((_, i) => i % every === 0);
    return { tickvals: kept, ticktext: kept.map(whole) };
  }

  // Returns data and layout of the lines of each run, with the same axes for all runs.
  function lined(runs, part, lines, asked, logs) {
    const colour = theme();
    const few = lines.filter((line) => !line.hidden && !line.level).length <= FEW;
    const state = { ...asked, agents: asked.agents && few };
    const visible = lines
      .filter((line) => !line.hidden)
      .map((line) => ({ ...line, colour: "share" in line ? between(colour, line.share) : colour(line.colour) }));
    const ends = extent(runs, lines, part, state, logs);
    const [x, y] = [range(ends.x, logs.x, false), range(ends.y, logs.y, true)];
    const places = measured(runs, lines, part).filter((place) => !logs.x || place > 0);
    const [left, right] = logs.x ? x.map((end) => 10 ** end) : x;
    const look = { colour, across: [left, ...places, right], ylog: logs.y, floor: 10 ** y[0] };
    const words = places.some((place) => typeof place === "string");
    if (words) look.across = places;
    const xaxis = { ...axis(colour, part.xlabel, logs.x && !words), ...(words ? { type: "category" } : { range: x }) };
    if (words) Object.assign(xaxis, { categoryorder: "array", categoryarray: places });
    else if (logs.x || (part.x !== "training_step" && places.length <= 20)) Object.assign(xaxis, ticks(places));
    else if (ends.x[1] >= 5000) xaxis.tickformat = "~s";
    const yaxis = { ...axis(colour, part.ylabel, logs.y), range: y };
    return runs.map((run, r) => ({
      data: visible.flatMap((line) => traces(run, r, part, line, state, look)),
      layout: layout(colour, part, { xaxis: structuredClone(xaxis), yaxis: structuredClone(yaxis) }),
    }));
  }

  const COLOURS = {
    mean: ["#ffffd9", "#d3eeb3", "#93d5c1", "#3f8fc4", "#0f2a6b"].map((one, i) => [(i / 4) ** 2, one]), // by square root
    ratio: [[0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#f7f7f7"], [0.75, "#f4a582"], [1, "#b2182b"]],
  };

  // Returns data and layout of the matrix of each run, with the same colours for all runs.
  function matrices(runs, part, chosen, state) {
    const colour = theme();
    const [x, y] = [part.x, part.by].map((column) => entries(runs, part, column, chosen));
    const ratio = part.matrix === "ratio";
    const of = runs.map((run) => {
      const agent = ratio ? -1 : run.seeds.findIndex((seed) => String(seed) === state.agent);
      const cells = new Map(
        rowsOf(run, part, chosen).map((row) => [`${run.columns[part.by][row]} ${run.columns[part.x][row]}`, row]),
      );
      const at = (column, row) => cells.get(`${row} ${column}`);
      const value = (row) => (row === undefined ? null : agent >= 0 ? run.own(agent, row) : run.columns[part.matrix][row]);
      return { run, agent, at, value };
    });
    const numbers = of.flatMap(({ at, value }) => y.flatMap((row) => x.map((column) => value(at(column, row)))));
    const known = numbers.filter((number) => Number.isFinite(number) && number > 0);
    const most = ratio ? Math.max(1, ...known.map((number) => Math.abs(Math.log2(number)))) : Math.max(...known, 1e-12);
    const placed = (number) => (!Number.isFinite(number) ? null : ratio ? (number > 0 ? Math.log2(number) : -most) : number);
    return of.map(({ run, agent, at, value }) => ({
      data: [
        {
          type: "heatmap",
          x: x.map(whole),
          y: y.map(whole),
          z: y.map((row) => x.map((column) => placed(value(at(column, row))))),
          text: y.map((row) => x.map((column) => cellMark(run, agent, at(column, row), value))),
          texttemplate: "%{text}",
          textfont: { size: 10 },
          hovertext: y.map((row) => x.map((column) => cellText(run, agent, at(column, row), row, column, value))),
          customdata: y.map((row) => x.map(() => ({ run: run.name, step: row }))),
          hovertemplate: "%{hovertext}<extra></extra>",
          colorscale: COLOURS[part.matrix],
          zmin: ratio ? -most : 0,
          zmax: most,
          xgap: 1,
          ygap: 1,
          showscale: false,
        },
      ],
      layout: layout(colour, part, {
        title: { text: agent < 0 ? "" : `agent ${run.seeds[agent]} alone`, font: { size: 12 }, y: 0.98, yanchor: "top" },
        margin: { l: 84, r: 14, t: agent < 0 ? 12 : 30, b: 48 },
        xaxis: { ...axis(colour, part.xlabel, false), type: "category", showgrid: false },
        yaxis: { ...axis(colour, part.ylabel, false), type: "category", showgrid: false, autorange: "reversed" },
      }),
    }));
  }

  // Returns the text of a cell: its number, in bold for a row's smallest mean if most agents have theirs there too.
  function cellMark(run, agent, row, value) {
    if (row === undefined) return "";
    const text = shown(rounded(value(row)));
    if (agent >= 0) return text;
    const { mean, smallest, agents, training_step: steps, policies_at: at } = run.columns;
    const own = run.rows.filter((other) => steps[other] === steps[row] && at[other] === at[row]);
    const least = Math.min(...own.map((other) => mean[other]).filter((number) => number !== null));
    return mean[row] === least && 2 * smallest[row] > agents[row] ? `<b>${text}</b>` : text;
  }

  const rounded = (number) => (number === null ? null : Number(number.toPrecision(2)));

  function cellText(run, agent, row, y, x, value) {
    const place = `X = ${whole(y)}, Y = ${whole(x)}`;
    if (row === undefined) return `${place}<br>not measured`;
    const cell = run.columns;
    if (agent >= 0) return `<b>agent ${run.seeds[agent]}</b><br>${place}<br>${shown(value(row))}`;
    const error = cell.standard_error[row] === null ? "" : ` ± ${shown(cell.standard_error[row])}`;
    const smallest = cell.smallest ? `<br>smallest of its row in ${cell.smallest[row]} of ${cell.agents[row]} agents` : "";
    const ratio = cell.ratio ? `<br>${shown(cell.ratio[row])} of the diagonal` : "";
    return `${place}<br>mean ${shown(cell.mean[row])}${error}${ratio}${smallest}`;
  }

  return { before, inert, theme, faint, between, entries, linesOf, lined, matrices, rowsOf, layout, axis };
})();
