"use strict";
(() => {
  const form = document.getElementById("filters");
  const sheets = [...document.querySelectorAll(".sheet")];
  const root = document.documentElement;
  form.hidden = false;

  // Numbers before words, and what is missing last, whichever way the column is turned.
  const rank = (value) => (value === "" ? 2 : Number.isNaN(Number(value)) ? 1 : 0);
  const compare = (one, other, sign) => {
    const order = rank(one) - rank(other);
    if (order !== 0 || one === "") return order;
    return sign * (rank(one) === 0 ? Number(one) - Number(other) : one.localeCompare(other));
  };

  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const place = head.cellIndex;
      const turned = head.getAttribute("aria-sort") === "descending";
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", turned ? "ascending" : "descending");
      const body = head.closest("table").tBodies[0];
      const value = (row) => row.cells[place].dataset.sort;
      const rows = [...body.rows].sort((a, b) => compare(value(a), value(b), turned ? 1 : -1));
      body.append(...rows);
    });
  }

  // What a cell shows when it is opened also shows on hover; written once, it is half as long in the file.
  for (const cell of document.querySelectorAll("details.cell")) {
    const facts = [...cell.querySelectorAll(".facts p")].map((one) => one.textContent);
    cell.querySelector("summary").title = facts.join("\n");
  }

  function apply() {
    const chosen = new FormData(form);
    const shown = new Set(chosen.getAll("column"));
    const search = chosen.get("search").trim().toLowerCase();
    let visible = 0, all = 0;
    for (const sheet of sheets) {
      const here = ["device", "protocol"].every((key) => !chosen.get(key) || sheet.dataset[key] === chosen.get(key));
      sheet.hidden = !here;
      const table = sheet.querySelector("table"); // the first is the sheet's own; folded ones stay whole
      for (const row of table.querySelectorAll("tbody tr")) {
        const name = row.cells[0].textContent.toLowerCase();
        row.hidden = !name.includes(search) || (chosen.get("family") && row.dataset.family !== chosen.get("family"));
        all += 1;
        visible += here && !row.hidden ? 1 : 0;
      }
      const heads = [...table.querySelectorAll("thead th")];
      const away = heads.map((head, place) => place > 0 && (!shown.has(head.dataset.column) ||
        ("task" in head.dataset && chosen.get("task") && head.dataset.column !== chosen.get("task"))));
      for (const row of table.querySelectorAll("tr")) {
        [...row.cells].forEach((cell, place) => { cell.hidden = away[place]; });
      }
    }
    document.getElementById("count").textContent = `${visible} of ${all} rows`;
    keep(chosen);
  }

  // Filters stay in the address, so that a view can be sent to somebody.
  function keep(chosen) {
    const query = new URLSearchParams();
    for (const key of ["search", "device", "protocol", "family", "task"]) {
      if (chosen.get(key)) query.set(key, chosen.get(key));
    }
    for (const box of form.querySelectorAll("[name=column]:not(:checked)")) query.append("without", box.value);
    const text = query.toString();
    history.replaceState(null, "", (text ? `?${text}` : location.pathname) + location.hash);
  }

  function recall() {
    const query = new URLSearchParams(location.search);
    for (const [key, value] of query) {
      if (key !== "without" && form.elements[key]) form.elements[key].value = value;
    }
    const without = new Set(query.getAll("without"));
    for (const box of form.querySelectorAll("[name=column]")) box.checked = !without.has(box.value);
  }

  // What an address or a link points to may lie in a closed part.
  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    target.tabIndex = -1;
    target.focus();
    target.scrollIntoView();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = event.target.closest("details[open]");
    if (open) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  window.addEventListener("hashchange", reveal);
  recall();
  apply();
  reveal();
})();
