"use strict";
document.documentElement.classList.add("js");

// A table is sorted by a column: its lines, or its groups of lines by their first one. What is missing comes last.
function sort(table, heading) {
  const headings = [...table.tHead.rows[0].cells];
  const before = heading.getAttribute("aria-sort");
  const turned = before === "ascending" ? "descending" : "ascending";
  const order = before ? turned : heading.dataset.first;
  headings.forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", order);
  const units = table.tBodies.length > 1 ? [...table.tBodies] : [...table.tBodies[0].rows];
  const value = (unit) => Number((unit.rows?.[0] ?? unit).cells[headings.indexOf(heading)].dataset.value ?? NaN);
  units.sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
    return order === "ascending" ? a - b : b - a;
  });
  units[0].parentNode.append(...units);
  // Rules between regions stand where regions do, in the order of the paper.
  table.classList.toggle("mixed", heading !== headings[0] || order !== "ascending");
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.closest("table"), button.closest("th")));
}

for (const examples of document.querySelectorAll(".examples")) {
  const show = (condition) => {
    for (const figure of examples.querySelectorAll("figure")) {
      figure.classList.toggle("shown", ["original", condition].includes(figure.dataset.condition));
    }
  };
  for (const radio of examples.querySelectorAll("input[type=radio]")) {
    if (radio.checked) show(radio.value);
    radio.addEventListener("change", () => show(radio.value));
  }
}

for (const slider of document.querySelectorAll(".pair input")) {
  const move = () => {
    slider.parentNode.style.setProperty("--at", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % original`);
  };
  slider.addEventListener("input", move);
  move();
}
