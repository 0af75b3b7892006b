"use strict";
(() => {
  const cards = [...document.querySelectorAll("[data-student]")];
  const columns = document.getElementById("columns").textContent.split(",");
  const told = document.getElementById("told");
  const field = (card, name) => card.querySelector(`[name="${name}"]`);
  const key = (card) => ["course-marks", card.dataset.student, card.dataset.question, card.dataset.seen].join("\n");
  let saved = true;

  // As coursework.tables.safe_cell: no spreadsheet shall compute with a comment.
  const cell = (text) => {
    const safe = /^['\s]*[=+\-@\t\r\n＝＋－＠]/.test(text) ? "'" + text : text;
    return /[",\r\n;]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  const row = (card) => columns.map((name) => {
    if (name === "out_of") return cell(card.dataset.outOf);
    const input = field(card, name);
    return cell(input ? input.value.trim() : card.dataset[name]);
  }).join(",");
  const table = () => [columns.join(","), ...cards.map(row)].join("\r\n") + "\r\n";

  const wrong = (card) => {
    const text = field(card, "points").value.trim().replace(",", ".");
    return text !== "" && !(Number(text) >= 0 && Number(text) <= Number(card.dataset.outOf));
  };
  const remember = (card) => {
    try {
      localStorage.setItem(key(card), JSON.stringify(["points", "comment"].map((n) => field(card, n).value)));
    } catch { /* without storage, the file is the only place */ }
  };
  const recall = (card) => {
    try {
      const kept = JSON.parse(localStorage.getItem(key(card)));
      if (kept) ["points", "comment"].forEach((n, i) => { field(card, n).value = kept[i]; });
    } catch { /* as above */ }
  };
  const count = () => cards.filter((c) => field(c, "points").value.trim() !== "").length;
  const tell = (text) => { told.textContent = text; };

  for (const card of cards) {
    recall(card);
    card.addEventListener("input", () => {
      saved = false;
      remember(card);
      field(card, "points").setAttribute("aria-invalid", String(wrong(card)));
      tell(`${count()} of ${cards.length} marked; not saved yet`);
    });
  }
  document.getElementById("save").addEventListener("click", () => {
    const bad = cards.find(wrong);
    if (bad) {
      tell(`${bad.dataset.student}, ${bad.dataset.question}: points must be from 0 to ${bad.dataset.outOf}`);
      field(bad, "points").focus();
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff" + table()], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    saved = true;
    tell(`${count()} of ${cards.length} marked; saved as ${link.download} where your downloads go`);
  });
  window.addEventListener("beforeunload", (event) => { if (!saved) event.preventDefault(); });
  window.courseMarks = table;  // for tests
  tell(`${count()} of ${cards.length} marked`);
})();
