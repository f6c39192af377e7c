"use strict";
const byId = (id) => document.getElementById(id);
const state = { files: [], model: null, token: "", answer: null, text: "", sent: [] };
const percent = (p) => (p > 0 && p < 0.001 ? "<\u00a00.1\u00a0%" : p > 0.999 && p < 1 ? ">\u00a099.9\u00a0%" : `${(100 * p).toFixed(1)}\u00a0%`);
const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

// Text becomes text, and never markup: nothing here parses HTML.
function make(tag, { text, className, ...rest } = {}, ...children) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  for (const [name, value] of Object.entries(rest)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function say(text, kind = "") {
  byId("state").textContent = text;
  byId("state").className = kind;
}

async function ask(path, form) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const options = form ? { method: "POST", body: form, headers } : { headers };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached. See that it runs.");
  }
  const text = await response.text();
  if (response.ok) return text;
  let detail = `The server refused (${response.status}).`;
  try {
    const problem = JSON.parse(text);
    detail = `${problem.title}. ${problem.detail}`;
  } catch { /* not of ours */ }
  throw Object.assign(new Error(detail), { status: response.status });
}

async function meet() {
  try {
    state.model = JSON.parse(await ask("/v1/model"));
  } catch (error) {
    byId("token-row").hidden = error.status !== 401;
    byId("model").textContent = error.status === 401 ? "This server asks for a token." : error.message;
    return;
  }
  byId("token-row").hidden = true;
  const { name, classes, guarantee, reads_words: reads, digest } = state.model;
  const sets = guarantee.scan || guarantee.subject;
  const whom = sets?.for === "new scan" ? "scans" : "people"; // of a run that knew no subjects
  const promise = sets ? ` Its sets hold the true class of at least ${Math.round(100 * sets.coverage)} % of new ${whom} like those of its calibration.` : " It gives no sets.";
  document.title = `${name} – Scanwise`;
  byId("name").textContent = `Ask ${name} about scans`;
  byId("model").textContent = `It tells apart ${classes.join(", ")}.${promise} Model ${digest.slice(0, 12)}.`;
  byId("words-row").hidden = !reads;
  byId("people-row").hidden = whom === "scans";
  refresh();
}

const pathOf = (file) => file.path || file.webkitRelativePath || file.name;

function refresh() {
  const size = state.files.reduce((sum, file) => sum + file.size, 0);
  const limits = state.model?.limits;
  const tooMany = limits && (state.files.length > limits.scans || size > limits.body);
  byId("chosen").textContent = state.files.length ? `${count(state.files.length, "file")}, ${size < 1e6 ? `${Math.ceil(size / 1e3)} kB` : `${(size / 1e6).toFixed(1)} MB`}.` : "No scans are chosen.";
  byId("send").disabled = !state.files.length || !state.model || tooMany;
  byId("clear").disabled = !state.files.length && !state.answer;
  if (tooMany) say(`At most ${count(limits.scans, "file")} and ${Math.round(limits.body / 2 ** 20)} MB at once. Choose fewer.`, "bad");
  else if (byId("state").className === "bad") say("");
}

function choose(files) {
  state.files = files.filter((file) => !file.name.startsWith("."));
  refresh();
}

async function filesOf(entry, before = "") {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    file.path = before + file.name;
    return [file];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const each of some) found.push(...(await filesOf(each, `${before}${entry.name}/`)));
  }
}

function personOf(path) {
  const parts = path.split("/");
  const name = parts.pop();
  return parts.length > 1 ? parts.slice(1).join("/") : name.includes("_") ? name.slice(0, name.indexOf("_")) : name;
}

function formOf(files) {
  const form = new FormData();
  const people = new FormData(byId("ask")).get("people");
  const about = {};
  if (people === "one") about.subjects = files.map(() => "this person");
  if (people === "many") about.subjects = files.map((file) => personOf(pathOf(file)));
  if (state.model.reads_words) about.words = files.map(() => byId("words").value);
  for (const file of files) form.append("scans", file, pathOf(file));
  form.append("about", JSON.stringify(about));
  return form;
}

async function send(event) {
  event.preventDefault();
  byId("send").disabled = true;
  say(`Asking about ${count(state.files.length, "file")} …`, "busy");
  try {
    const sent = state.files.slice();
    const text = await ask("/v1/predict", formOf(sent));
    state.answer = JSON.parse(text).answer;
    // the bytes of `scanwise predict --format json`, as they came
    state.text = `${text.slice(text.indexOf('"answer": ') + 10).trimEnd().slice(0, -1)}\n`;
    state.sent = sent;
    show();
    say("");
    byId("results-title").focus();
  } catch (error) {
    say(error.message, "bad");
    if (error.status === 401) byId("token-row").hidden = false;
  }
  byId("send").disabled = !state.files.length;
}

function reasonsOf(row) {
  const reasons = [];
  const named = row.set === "" && guaranteeOf(row) ? 0 : row.set.split("|").filter(Boolean).length;
  if (guaranteeOf(row) && named !== 1) reasons.push(named ? `${named} classes cannot be ruled out` : "its set holds no class");
  if (row.ood_flag === true) reasons.push("unlike training");
  if (row.deferred === true) reasons.push("too uncertain for the error that is allowed");
  return reasons;
}

const guaranteeOf = (row) => state.model.guarantee["scans" in row ? "subject" : "scan"];

function probabilities(row) {
  const set = row.set.split("|");
  const list = make("ul", { className: "probs", "aria-label": "Probabilities" });
  const classes = [...state.model.classes].map((name) => [name, row[`p_${name}`]]);
  if (classes.length > 6) classes.sort((a, b) => b[1] - a[1]).splice(6);
  for (const [name, p] of classes) {
    const fill = make("i");
    fill.style.width = `${100 * p}%`;
    list.append(make("li", {}, make("span", { text: name, className: set.includes(name) ? "in" : "" }), make("span", { className: "bar", "aria-hidden": "true" }, fill), make("span", { text: percent(p), className: "number" })));
  }
  return list;
}

function card(row, title) {
  const reasons = reasonsOf(row);
  const abstains = row.abstain === true || row.deferred === true;
  const node = make("article", { className: abstains ? "card abstains" : "card" });
  const verdict = make("p", { className: "verdict" }, make("span", { text: abstains ? "No answer" : row.predicted }));
  if (!abstains) verdict.append(make("small", { text: percent(row[`p_${row.predicted}`]) }));
  const why = make("p", { className: "why" });
  if (abstains) why.append(make("b", { text: "Abstains: a person should review it" }), `Why: ${reasons.join("; ") || "not certain enough"}. Most likely: ${row.predicted}, ${percent(row[`p_${row.predicted}`])}.`);
  else why.append(guaranteeOf(row) ? "One class is left in its set." : "This model gives no sets, so nothing is guaranteed.");
  node.append(make("h3", { text: title }), verdict, why, probabilities(row));
  if (guaranteeOf(row)) node.append(make("p", { className: "facts", text: row.set ? `Set: ${row.set.split("|").join(", ")}` : "Set: empty" }));
  if (row.ood_flag === true) node.append(make("p", { className: "badge", text: "Unlike training" }));
  return node;
}

function figure(source, text, alternative) {
  return make("figure", {}, make("img", { src: source, alt: alternative }), make("figcaption", { text }));
}

function fileOf(path) {
  const exact = state.sent.findIndex((file) => pathOf(file) === path);
  return exact >= 0 ? state.sent[exact] : state.sent.find((file) => path.startsWith(`${pathOf(file)}#`));
}

async function explain(path, node, button) {
  button.disabled = true;
  button.textContent = "Drawing …";
  try {
    const file = fileOf(path);
    const { explanations } = JSON.parse(await ask("/v1/explain", formOf([file])));
    const found = explanations.find((each) => each.path === path);
    const data = (text) => `data:image/png;base64,${text}`;
    const named = { passed: "Checks passed", failed: "Checks failed", "not checked": "Not checked" }[found.verdict];
    const pictures = make("div", { className: "pictures" }, figure(data(found.scan_png), "As the network sees it", `Scan ${path}`), figure(data(found.png), `Evidence for ${found.target}`, `Heatmap over ${path}`));
    const badge = make("p", { className: `badge ${found.verdict.replace(" ", "-")}`, text: named });
    const told = { passed: "The method passed its sanity checks on this model.", failed: `Do not rely on it: ${found.reason}.`, "not checked": "Whether the method can be relied on for this model is not known." }[found.verdict];
    button.replaceWith(pictures, badge, make("p", { className: "soft", text: `${told} Method: ${found.method.replaceAll("_", " ")}.` }));
    node.querySelector(".pictures.alone")?.remove();
  } catch (error) {
    button.replaceWith(make("p", { className: "note", text: error.message }));
  }
}

function scanCard(row) {
  const node = card(row, row.path);
  const file = fileOf(row.path);
  if (file && /^image\/(png|jpeg|webp|gif|bmp)$/.test(file.type)) {
    const url = URL.createObjectURL(file);
    const shown = figure(url, "The file", `Scan ${row.path}`);
    shown.firstChild.addEventListener("load", () => URL.revokeObjectURL(url));
    node.append(make("div", { className: "pictures alone" }, shown));
  }
  if (state.model.explains && file) {
    const button = make("button", { type: "button", className: "plain small", text: "Show heatmap", "aria-label": `Show heatmap of ${row.path}` });
    button.addEventListener("click", () => explain(row.path, node, button));
    node.append(button);
  }
  return node;
}

function group(id, title, cards) {
  byId(id).replaceChildren();
  if (cards.length) byId(id).append(make("h2", { className: "group", text: title }), make("div", { className: "cards" }, ...cards));
}

function show() {
  const { scans, subjects, quarantine, remarks } = state.answer;
  const left = scans.filter((row) => row.abstain === true).length;
  byId("results").hidden = false;
  byId("summary").textContent = `${count(scans.length, "scan")} answered${left ? `, of which ${left} ${left === 1 ? "is" : "are"} left to a person` : ""}${quarantine.length ? `; ${count(quarantine.length, "file")} could not be read` : ""}.`;
  const notes = remarks.map((text) => make("p", { className: "note", text }));
  if (quarantine.length) {
    const list = make("ul", {}, ...quarantine.map(({ path, reason }) => make("li", { text: `${path}: ${reason}` })));
    notes.push(make("div", { className: "bad-note" }, make("b", { text: "Not read" }), list));
  }
  if (!state.model.explains) notes.push(make("p", { className: "soft", text: "This model is an exported one: it draws no heatmaps." }));
  byId("notes").replaceChildren(...notes);
  group("persons", subjects.length === 1 ? "The person" : "Persons", subjects.map((row) => card(row, `${row.subject}, ${count(row.scans, "scan")}`)));
  group("scans", "Scans", scans.map(scanCard));
  refresh();
}

// As `csv_files` writes it: what a spreadsheet would take for a formula is text.
function cell(value) {
  let text = value === true ? "True" : value === false ? "False" : String(value ?? "");
  if (typeof value === "string" && /^'*[=+@\t\r\uff1d\uff0b\uff20\uff0d-]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  const rows = [...state.answer.subjects.map((row) => ({ unit: "subject", path: "", ...row })), ...state.answer.scans.map((row) => ({ unit: "scan", ...row }))];
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function download(name, kind, text) {
  const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type: kind })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function clear() {
  Object.assign(state, { files: [], answer: null, text: "", sent: [] });
  byId("ask").reset();
  byId("results").hidden = true;
  for (const id of ["persons", "scans", "notes"]) byId(id).replaceChildren();
  say("");
  refresh();
  byId("files").focus();
}

const drop = byId("drop");
for (const name of ["dragover", "dragenter"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const dropped = [...event.dataTransfer.files];
  choose(entries.length ? (await Promise.all(entries.map((entry) => filesOf(entry)))).flat() : dropped);
});
byId("files").addEventListener("change", (event) => choose([...event.target.files]));
byId("ask").addEventListener("submit", send);
byId("clear").addEventListener("click", clear);
byId("csv").addEventListener("click", () => download("answers.csv", "text/csv", csv()));
byId("json").addEventListener("click", () => download("answers.json", "application/json", state.text));
byId("use-token").addEventListener("click", () => { state.token = byId("token").value.trim(); meet(); });
byId("token").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); byId("use-token").click(); } });
meet();
