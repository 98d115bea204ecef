
"use strict";
// One ballot: shows its sheet question by question, keeps every vote at once in this browser, and saves them as a file.
// Texts enter the page through textContent alone. Choices are 1 (first), 2 (second) and 0 (equally good).

const sheet = JSON.parse(document.getElementById("sheet").textContent);
const questions = sheet.questions;
const at = (id) => document.getElementById(id);
const SHELF = `lethe-ballot/${sheet.name}/${sheet.editor}/`;
const PAGES = ["start", "question", "end"];
let here = 0;
let reviewing = false; // a task was chosen from the end's list

// ---- what is kept: one entry for each question, so that two windows do not overwrite each other ----

const memory = new Map();

function keeps() {
  try {
    localStorage.setItem(SHELF + "try", "1");
    localStorage.removeItem(SHELF + "try");
    return true;
  } catch {
    return false;
  }
}

const kept = keeps();

function read(name) {
  const text = kept ? localStorage.getItem(SHELF + name) : memory.get(name);
  return text ? JSON.parse(text) : {};
}

function write(name, value) {
  memory.set(name, JSON.stringify(value));
  if (kept) localStorage.setItem(SHELF + name, JSON.stringify(value));
}

const voteOn = (n) => read(questions[n].token);
const isAnswered = (n) => [0, 1, 2].includes(voteOn(n).choice);
const answered = () => questions.filter((_, n) => isAnswered(n)).length;
const firstOpen = () => questions.findIndex((_, n) => !isAnswered(n));

// ---- what is shown ----

function open(page) {
  for (const name of PAGES) at(name).hidden = name !== page;
  at("count").textContent = `${page === "question" ? here + 1 : answered()} of ${questions.length}`;
  progress();
  scrollTo(0, 0);
}

function progress() {
  at("bar").style.width = `${(100 * answered()) / questions.length}%`;
  at("track").setAttribute("aria-valuenow", answered());
}

function show(n) {
  here = n;
  at("prompt").textContent = questions[n].prompt;
  at("first").textContent = questions[n].first;
  at("second").textContent = questions[n].second;
  at("comment").value = voteOn(n).comment || "";
  at("back").disabled = n === 0;
  open("question");
  mark();
  at("prompt").focus({ preventScroll: true });
}

function mark() {
  const choice = voteOn(here).choice;
  for (const value of [0, 1, 2]) at(`choose${value}`).setAttribute("aria-checked", choice === value);
  at("card1").classList.toggle("chosen", choice === 1);
  at("card2").classList.toggle("chosen", choice === 2);
  at("answers").classList.toggle("tie", choice === 0);
  at("next").disabled = choice === undefined;
  progress();
}

function finish() {
  reviewing = false;
  at("grid").replaceChildren(
    ...questions.map((_, n) => {
      const button = document.createElement("button");
      button.textContent = n + 1;
      button.setAttribute("aria-label", `Task ${n + 1}`);
      button.addEventListener("click", () => {
        reviewing = true;
        show(n);
      });
      return button;
    }),
  );
  at("file").textContent = fileName();
  at("saved").textContent = read("saved").at ? "Saved before. Save again if you changed something." : "";
  open("end");
  at("save").focus();
}

// ---- what an editor does ----

function choose(value) {
  write(questions[here].token, { ...voteOn(here), choice: value });
  mark();
}

function remark() {
  const comment = at("comment").value.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "");
  write(questions[here].token, { ...voteOn(here), comment });
}

function next() {
  if (!isAnswered(here)) return;
  const last = here === questions.length - 1;
  if (firstOpen() === -1 && (last || reviewing)) finish();
  else show(last ? firstOpen() : here + 1);
}

function back() {
  if (here > 0) show(here - 1);
}

function resume() {
  if (firstOpen() === -1) finish();
  else show(firstOpen());
}

// ---- the file of votes ----

const fileName = () => `votes-${sheet.editor}${sheet.simulated ? "-SIMULATED" : ""}.json`;

function votes() {
  const cast = questions.map((question, n) => {
    const { choice, comment } = voteOn(n);
    return { token: question.token, choice, comment: comment || "" };
  });
  const signed = JSON.stringify([sheet.stamp, sheet.name, sheet.editor, "", ...cast.map((v) => [v.token, v.choice, v.comment])]);
  return { lethe: "votes", version: 1, ballot: sheet.name, editor: sheet.editor, simulated: "", votes: cast, check: sha256(signed) };
}

function save() {
  if (firstOpen() !== -1) return resume();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(votes(), null, 1)], { type: "application/json" }));
  link.download = fileName();
  link.click();
  write("saved", { at: Date.now() });
  at("saved").textContent = "Saved to your downloads. You can close this page.";
}

// FIPS 180-4, as browsers give theirs to pages from a server alone. The constants are bits of roots of primes.
function sha256(text) {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const bits = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
  const constants = primes.map((p) => bits(Math.cbrt(p)));
  let state = primes.slice(0, 8).map((p) => bits(Math.sqrt(p)));
  const bytes = new TextEncoder().encode(text);
  const data = new Uint8Array(((bytes.length + 72) >> 6) << 6);
  data.set(bytes);
  data[bytes.length] = 0x80;
  const view = new DataView(data.buffer);
  view.setUint32(data.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(data.length - 4, bytes.length << 3);
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  for (let start = 0; start < data.length; start += 64) {
    const words = Array.from({ length: 16 }, (_, n) => view.getInt32(start + 4 * n));
    for (let n = 16; n < 64; n++) {
      const [a, b] = [words[n - 15], words[n - 2]];
      const low = turn(a, 7) ^ turn(a, 18) ^ (a >>> 3);
      const high = turn(b, 17) ^ turn(b, 19) ^ (b >>> 10);
      words.push((words[n - 16] + low + words[n - 7] + high) | 0);
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let n = 0; n < 64; n++) {
      const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + constants[n] + words[n]) | 0;
      const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(one + two) | 0, a, b, c, (d + one) | 0, e, f, g];
    }
    state = [a, b, c, d, e, f, g, h].map((x, n) => (x + state[n]) | 0);
  }
  return state.map((x) => (x >>> 0).toString(16).padStart(8, "0")).join("");
}

// ---- keys and clicks ----

const KEYS = { 1: () => choose(1), 2: () => choose(2), 0: () => choose(0), ArrowLeft: () => choose(1), ArrowRight: () => choose(2) };
KEYS["="] = KEYS[0];
KEYS.Enter = next;
KEYS.Backspace = back;
KEYS.c = KEYS.C = () => at("comment").focus();

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target === at("comment")) {
    if (event.key === "Escape") at("comment").blur();
    return;
  }
  if (at("question").hidden || (event.key === "Enter" && event.target === at("back"))) return;
  const act = KEYS[event.key];
  if (!act || event.repeat) return;
  event.preventDefault();
  act();
});

for (const value of [0, 1, 2]) at(`choose${value}`).addEventListener("click", () => choose(value));
for (const value of [1, 2]) {
  at(`card${value}`).addEventListener("click", () => {
    if (getSelection().isCollapsed) choose(value); // marking words to read them again is no vote
  });
}
at("comment").addEventListener("input", remark);
at("next").addEventListener("click", next);
at("back").addEventListener("click", back);
at("save").addEventListener("click", save);
at("begin").addEventListener("click", () => show(0));
addEventListener("storage", () => at("question").hidden || mark()); // another window of the same ballot

at("track").setAttribute("aria-valuemax", questions.length);
at("total").textContent = questions.length;
at("twice").hidden = new Set(questions.map((question) => question.prompt)).size === questions.length;
at("forgetful").hidden = kept;
if (answered() > 0) resume();
else {
  open("start");
  at("begin").focus();
}
