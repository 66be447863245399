"use strict";
const kit = document.querySelector("[data-kit]").dataset.kit;
const trials = [...document.querySelectorAll("section[data-trial]")];
for (let i = trials.length - 1; i > 0; i--) {
  const j = Math.floor(Math.random() * (i + 1));
  [trials[i], trials[j]] = [trials[j], trials[i]];
}
const pages = [document.getElementById("start"), ...trials, document.getElementById("end")];
const given = {};
const started = new Date().toISOString();
let at = 0;
function needed(page) {
  return [...page.querySelectorAll("[data-answer]")].map(e => e.dataset.answer);
}
function refresh() {
  pages.forEach((page, i) => page.classList.toggle("now", i === at));
  document.querySelectorAll("audio, video").forEach(m => m.pause());
  document.querySelector("progress").value = at / (pages.length - 1);
  document.getElementById("back").disabled = at === 0;
  const name = document.getElementById("listener").value.trim();
  const whole = at === 0 ? name !== "" : needed(pages[at]).every(key => key in given);
  document.getElementById("next").disabled = at === pages.length - 1 || !whole;
}
function take(key, value) {
  given[key] = value;
  try { localStorage.setItem(kit, JSON.stringify(given)); } catch (error) { /* private window */ }
  refresh();
}
document.querySelectorAll("[data-answer]").forEach(element => {
  element.addEventListener("change", event => {
    const value = event.target.value;
    take(element.dataset.answer, event.target.type === "range" ? Number(value) : value);
    const shown = element.querySelector("output");
    if (shown) shown.textContent = value;
  });
});
document.getElementById("listener").addEventListener("input", refresh);
document.getElementById("next").addEventListener("click", () => { at += 1; refresh(); });
document.getElementById("back").addEventListener("click", () => { at -= 1; refresh(); });
function answers() {
  const listener = document.getElementById("listener").value.trim();
  const order = trials.map(t => t.dataset.trial);
  return { kit, listener, started, finished: new Date().toISOString(), order, answers: given };
}
document.getElementById("save").addEventListener("click", () => {
  const saved = answers();
  const link = document.createElement("a");
  const text = JSON.stringify(saved, null, 1);
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "answers-" + saved.listener.replace(/[^A-Za-z0-9_-]+/g, "-") + ".json";
  link.click();
});
refresh();
