"use strict";
const sections = [...document.querySelectorAll("section[data-clip]")];
const who = document.getElementById("who");
const save = document.getElementById("save");
const decided = {};
function refresh() {
  const number = Object.keys(decided).length;
  document.getElementById("done").textContent = number + " of " + sections.length;
  save.disabled = number === 0 || who.value.trim() === "";
}
sections.forEach(section => {
  section.querySelectorAll("button[data-decision]").forEach(button => {
    button.addEventListener("click", () => {
      decided[section.dataset.clip] = button.dataset.decision;
      section.querySelector("fieldset output").textContent = button.textContent;
      refresh();
    });
  });
});
who.addEventListener("input", refresh);
save.addEventListener("click", () => {
  const clips = {};
  sections.filter(section => section.dataset.clip in decided).forEach(section => {
    clips[section.dataset.clip] = {
      decision: decided[section.dataset.clip],
      shown: section.dataset.caption,
      caption: section.querySelector("textarea").value,
    };
  });
  const saved = {
    omni2sound_review: 1, who: who.value.trim(), when: new Date().toISOString(), clips,
  };
  const link = document.createElement("a");
  const text = JSON.stringify(saved, null, 1);
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "review-" + saved.who.replace(/[^A-Za-z0-9_-]+/g, "-") + ".json";
  link.click();
});
refresh();
