"use strict";
// Shows the inspected states of one agent and training step, chosen in the form or by a click on a point.
(() => {
  const form = document.getElementById("state-choice");
  if (!form) return;
  const { numbers, shown, whole, unpacked } = reading;
  const [place, said, back] = ["shown", "said", "back"].map((name) => document.getElementById(`state-${name}`));
  const why = { worst: "the largest error", median: "the median error", random: "drawn by lot", asked: "asked for" };
  const titles = { likeliest: "The likeliest sequence", best: "The best sequence", worst: "The worst predicted sequence" };
  let asked = 0; // number of the latest choice; an earlier one may still be unpacking

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  const kept = (run) => numbers.states[run]?.at ?? [];
  const chosen = (name) => Number(form.elements[name].value);

  function fill(box, entries, text, wanted, other) {
    box.replaceChildren(...entries.map((entry) => element("option", { value: String(entry), textContent: text(entry) })));
    box.value = String(entries.includes(wanted) ? wanted : other(entries));
  }

  // Fills in the agents of the run and the steps of the agent; keeps the previous choices if they exist there.
  function choices(seed, step) {
    const at = kept(chosen("run"));
    fill(form.elements.seed, [...new Set(at.map(([one]) => one))], (one) => `agent ${one}`, seed, (all) => all[0]);
    const steps = at.filter(([one]) => one === chosen("seed")).map(([, one]) => one);
    fill(form.elements.step, steps, whole, step, (all) => all.at(-1));
  }

  // Numbers in words

  const spread = (of, i) => (of.true_return_error[i] === null ? "" : ` ± ${shown(of.true_return_error[i])}`);

  function nodeText(part, i) {
    const name = element("b", { textContent: part.parent[i] < 0 ? "the state" : part.meaning[i] });
    const facts = [];
    const fact = (label, number) => number !== null && facts.push(`${label} ${number}`);
    if (part.parent[i] < 0) {
      fact("N", whole(part.visits[i]));
      fact("value of the search", shown(part.q[i]));
    } else {
      if (part.visits[i] > 0) {
        fact("N", whole(part.visits[i]));
        fact("Q", shown(part.q[i]));
      } else facts.push("not tried");
      fact("P", shown(part.prior[i]));
    }
    if (part.leaf_value[i] !== null) fact("v", shown(part.leaf_value[i]));
    if (part.parent[i] >= 0) {
      fact("r", shown(part.reward[i]));
      fact("u", shown(part.predicted_reward[i]));
      fact("latents apart by", shown(part.latent_distance[i]));
    }
    if (part.true_return[i] !== null) fact("true return", shown(part.true_return[i]) + spread(part, i));
    if (part.ends.includes(i)) facts.push("an end");
    return [name, `: ${facts.join(", ")}`];
  }

  function branch(part, i) {
    const below = part.parent.flatMap((parent, child) => (parent === i ? [child] : []));
    if (!below.length) return element("li", {}, element("span", {}, ...nodeText(part, i)));
    const summary = element("summary", {}, ...nodeText(part, i));
    return element("li", {}, element("details", { open: i === 0 }, summary, element("ul", {}, ...below.map((child) => branch(part, child)))));
  }

  function tree(part) {
    const heading = element("h5", { textContent: `Search in the ${part.name} model` });
    return element("div", {}, heading, element("ul", { className: "tree" }, branch(part, 0)));
  }

  function sequence(part) {
    const head = ["Step", "Action", "r", "u", "Sum of r", "Sum of u", "Latents apart by"];
    const last = part.value.length - 1;
    const title = titles[part.name] ?? part.name;
    const says = `${title}: probability ${shown(part.probability[last])}, true ${shown(part.value[last])}, predicted ${shown(part.predicted_value[last])}`;
    const numeric = (i) => (i === 1 ? "" : "number");
    const top = element("tr", {}, ...head.map((text, i) => element("th", { scope: "col", textContent: text, className: numeric(i) })));
    const rows = part.meaning.slice(1).map((meaning, k) => {
      const i = k + 1;
      const cells = [part.reward, part.predicted_reward, part.value, part.predicted_value, part.latent_distance].map((of) => shown(of[i]));
      const texts = [`${i}`, meaning + (part.ends.includes(i) && !part.ends.includes(i - 1) ? ", an end" : ""), ...cells];
      return element("tr", {}, ...texts.map((text, c) => element(c ? "td" : "th", { textContent: text, className: numeric(c), ...(c === 0 && { scope: "row" }) })));
    });
    const made = element("table", {}, element("caption", { textContent: says }), element("thead", {}, top), element("tbody", {}, ...rows));
    const box = element("div", { className: "scroll", tabIndex: 0 }, made);
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", says);
    return box;
  }

  function one(state, k) {
    const id = `state-${k}`;
    const heading = element("h4", { id, textContent: `State ${state.state} (${why[state.chosen] ?? state.chosen})` });
    const where = `Step ${whole(state.time)} of episode ${state.episode}: error ${shown(state.error)} at the largest h. True return of the behaviour policy from here: ${shown(state.true_return)} ± ${shown(state.true_return_error)}.`;
    const seen = element("div", {}, element("p", { textContent: where }));
    if (state.observation) seen.append(element("p", { textContent: `Observation: ${state.observation}` }));
    // As an image, the picture cannot run code, whatever it contains.
    const drawn = state.picture ? [element("img", { src: `data:image/svg+xml,${encodeURIComponent(state.picture)}`, alt: `Drawing of state ${state.state}` })] : [];
    const trees = state.parts.filter((part) => part.tree);
    const article = element(
      "article",
      { className: "state" },
      heading,
      element("div", { className: "seen" }, ...drawn, seen),
      element("div", { className: "trees" }, ...trees.map(tree)),
      element("div", { className: "trees" }, ...state.parts.filter((part) => !part.tree).map(sequence)),
    );
    article.setAttribute("aria-labelledby", id);
    return article;
  }

  async function show() {
    const turn = ++asked;
    const run = chosen("run");
    const i = kept(run).findIndex(([seed, step]) => seed === chosen("seed") && step === chosen("step"));
    if (i < 0) return;
    const states = await unpacked(numbers.states[run].packed[i]);
    if (turn !== asked) return;
    const whose = numbers.runs.length > 1 ? `${numbers.runs[run]}: agent` : "Agent";
    const title = `${whose} ${chosen("seed")} at training step ${whole(chosen("step"))}`;
    place.replaceChildren(element("h3", { textContent: title }), ...states.map(one));
    place.dataset.shown = kept(run)[i].join(" ");
  }

  // Handles a click on a point, which has a run, a step and, if it is of one agent, a seed; else the agent stays.
  function point({ run, seed, step, from }) {
    const r = numbers.runs.indexOf(run);
    const at = kept(r);
    const same = r === chosen("run");
    const agent = seed ?? (same ? chosen("seed") : at[0]?.[0]);
    const when = step ?? (same ? chosen("step") : at.findLast(([one]) => one === agent)?.[1]);
    if (!at.some(([one, other]) => one === agent && other === when)) {
      said.textContent = `no states of agent ${agent} at step ${whole(when ?? 0)} are kept`;
      return;
    }
    said.textContent = "";
    form.elements.run.value = String(r);
    choices(agent, when);
    Object.assign(back, { hidden: false, href: `#${from}` });
    show();
    const title = document.getElementById("states-title");
    title.focus({ preventScroll: true });
    title.scrollIntoView();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    choices(chosen("seed"), chosen("step"));
    show();
  });
  document.addEventListener("mzprobe:point", ({ detail }) => point(detail));
  choices(null, null);
  show();
})();
