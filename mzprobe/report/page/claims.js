"use strict";
// Sorts, filters and opens the rows of the table of claims. Works before the plotting library is loaded.
(() => {
  const table = document.getElementById("claim-table");
  const form = document.getElementById("claim-filter");
  const claims = [...table.querySelectorAll("tbody.claim")];
  const verdicts = ["holds", "fails", "undecided", "no data"];
  const value = {
    order: (claim) => Number(claim.dataset.order),
    section: (claim) => claim.dataset.section,
    verdict: (claim) => verdicts.indexOf(claim.dataset.verdict),
    effect: (claim) => Number(claim.dataset.effect),
    p: (claim) => Number(claim.dataset.p),
  };

  function compare(one, other) {
    if (typeof one === "string") return one.localeCompare(other, "en", { numeric: true });
    const lacking = Number.isNaN(one) - Number.isNaN(other); // undefined values come last
    return lacking || one - other;
  }

  function sort(button) {
    const head = button.closest("th");
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const of = value[button.dataset.sort];
    const order = [...claims].sort((one, other) => {
      const difference = compare(of(one), of(other));
      const fixed = Number.isNaN(of(one)) || Number.isNaN(of(other));
      return (falling && !fixed ? -difference : difference) || value.order(one) - value.order(other);
    });
    table.append(...order);
  }

  function filter() {
    const asked = new FormData(form);
    const shown = asked.getAll("verdict");
    const words = asked.get("words").toLowerCase().split(/\s+/).filter(Boolean);
    for (const claim of claims) {
      const text = claim.querySelector("th").textContent.toLowerCase();
      claim.hidden = !(
        shown.includes(claim.dataset.verdict) &&
        (!asked.get("section") || asked.get("section") === claim.dataset.section) &&
        (!asked.get("run") || asked.get("run") === claim.dataset.run) &&
        words.every((word) => text.includes(word))
      );
    }
    const left = claims.filter((claim) => !claim.hidden).length;
    document.getElementById("claim-count").textContent = `${left} of ${claims.length} shown`;
  }

  function open(claim, opened) {
    const button = claim.querySelector("button.open");
    if ((button.getAttribute("aria-expanded") === "true") === opened) return;
    button.setAttribute("aria-expanded", String(opened));
    claim.querySelector("tr.more").hidden = !opened;
    if (opened) document.dispatchEvent(new CustomEvent("mzprobe:claim", { detail: claim }));
  }

  table.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.sort) sort(button);
    if (button?.classList.contains("open")) {
      open(button.closest("tbody"), button.getAttribute("aria-expanded") === "false");
    }
  });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  const all = document.getElementById("open-claims");
  all.addEventListener("click", () => {
    const opening = all.textContent === "Open all";
    all.textContent = opening ? "Close all" : "Open all";
    for (const claim of claims) open(claim, opening && !claim.hidden);
  });
  filter();
})();
