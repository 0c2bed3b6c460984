"use strict";
// Reads the page's numbers: aggregates from the text of their CSV, agents' own numbers from packed float64.
const reading = (() => {
  const numbers = JSON.parse(document.getElementById("numbers").textContent);

  function floats(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Float64Array(bytes.buffer);
  }

  // Unpacks values that were compressed as JSON (RFC 1952).
  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  // Parses the rows and fields of a CSV (RFC 4180) below its comment lines.
  function fields(text) {
    let at = 0;
    while (text[at] === "#") at = text.indexOf("\n", at) + 1;
    const rows = [];
    let row = [];
    let field = "";
    let quoted = false;
    for (; at < text.length; at++) {
      const letter = text[at];
      if (quoted) {
        if (letter !== '"') field += letter;
        else if (text[at + 1] === '"') field += text[++at];
        else quoted = false;
      } else if (letter === '"') quoted = true;
      else if (letter === "," || letter === "\n") {
        row.push(field);
        field = "";
        if (letter === "\n") {
          rows.push(row);
          row = [];
        }
      } else field += letter;
    }
    return rows;
  }

  const ENDLESS = { inf: Infinity, "-inf": -Infinity }; // as pandas writes them

  // Returns the columns of a CSV by name: numbers, with null for missing ones, or words.
  function columns(text) {
    const [names, ...rows] = fields(text);
    const found = {};
    names.forEach((name, i) => {
      const entries = rows.map((row) => row[i]);
      const numbers = entries.map((entry) => (entry === "" ? null : ENDLESS[entry] ?? Number(entry)));
      found[name] = numbers.some(Number.isNaN) ? entries : numbers;
    });
    return { names, columns: found, length: rows.length };
  }

  // Reads the numbers of one run in a figure; called when the figure is first drawn.
  function run(record) {
    const table = columns(record.csv);
    const place = new Map(record.rows.map((row, i) => [row, i]));
    const [own, low, high] = [record.own, record.low, record.high].map(floats);
    return {
      ...table,
      name: record.run,
      seeds: record.seeds,
      own: (agent, row) => own[agent * place.size + place.get(row)],
      spread(row, kind) {
        if (kind === "interval") return [low[place.get(row)], high[place.get(row)]];
        const mean = table.columns.mean[row];
        const error = kind === "standard_error" ? table.columns.standard_error[row] : null;
        return error === null ? [NaN, NaN] : [mean - error, mean + error];
      },
      rows: record.rows,
    };
  }

  // Returns the agents' own numbers as a CSV: the columns that identify a cell, the agent's seed and its mean.
  function ownCsv(record) {
    const table = run(record);
    const given = new Set(["mean", "standard_error", "agents", "smallest", "ratio", "returns"]);
    const keys = table.names.filter((name) => !given.has(name));
    const lines = [[...keys, "seed", "mean"].join(",")];
    for (const row of table.rows) {
      const cell = keys.map((key) => quoted(table.columns[key][row] ?? ""));
      table.seeds.forEach((seed, agent) => {
        const number = table.own(agent, row);
        lines.push([...cell, seed, Number.isNaN(number) ? "" : number].join(","));
      });
    }
    return comments(record.csv) + lines.join("\n") + "\n";
  }

  function comments(text) {
    let at = 0;
    while (text[at] === "#") at = text.indexOf("\n", at) + 1;
    return text.slice(0, at);
  }

  function quoted(entry) {
    return /[",\n]/.test(entry) ? `"${String(entry).replaceAll('"', '""')}"` : String(entry);
  }

  // Formats a number with four significant digits.
  function shown(number) {
    if (number === null || Number.isNaN(number)) return "–";
    return String(Number(number.toPrecision(4))).replace("-", "−").replace("Infinity", "∞");
  }

  const whole = (number) => (Number.isInteger(number) ? number.toLocaleString("en") : String(number));

  function save(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name.replace(/[^\w.-]+/g, "_");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  return { numbers, floats, unpacked, run, ownCsv, quoted, shown, whole, save };
})();
