
// The editor. Its requests are sent between two looks, so that a page needs one connection.

const NONE = "";  // the label of pictures that show none of the labels

let draft = null;  // the label set as this page wants it
let draftVersion = 0;  // of the label set that the draft began with
let isDirty = false;  // the draft has a change that was not sent
let isSent = false;  // a change is being made for this page
let waiting = [];  // other requests: path and body
let lastScores = {};  // of each label, and the threshold that is in use
let shownNotice = null;
let shownPictures = "";

function say(text, isError) {
  setText("edit-says", text);
  byId("edit-says").className = isError ? "warn" : "";
}

function addControl(tag, parent, key, text) {
  const element = addElement(tag, "", parent);
  element.dataset.key = key;  // focus stays with it when the list is made again
  if (tag === "button") element.type = "button";
  if (text) element.textContent = text;
  return element;
}

function addLabelled(tag, parent, key, text) {
  const label = addElement("label", "", parent);
  label.append(`${text} `);
  return addControl(tag, label, key);
}

// For a change that adds or removes something on the page.
function changeRows(change) {
  change();
  isDirty = true;
  showDraft();
}

// Made again whole; what had the focus has it again, and what was open is open.
function showDraft() {
  const focused = document.activeElement && document.activeElement.dataset.key;
  const open = new Set([...document.querySelectorAll("#edited details[open]")]
    .map(details => details.dataset.key));
  const list = byId("edited");
  list.replaceChildren();
  draft.labels.forEach(label => addEdited(list, label, open));

  const prompts = byId("background");
  prompts.replaceChildren();
  draft.background.forEach(phrase => {
    const row = addElement("div", "row", addElement("li", "", prompts));
    addElement("span", "", row).textContent = phrase;
    const remove = addControl("button", row, `prompt ${phrase}`, "Remove");
    remove.setAttribute("aria-label", `Remove ${phrase}`);
    remove.onclick = () => changeRows(() => {
      draft.background = draft.background.filter(other => other !== phrase);
      byId("phrase").focus();
    });
  });
  byId("background-title").hidden = !draft.background.length;

  byId("groups").replaceChildren(...[...new Set(draft.labels.map(label => label.group))]
    .map(group => new Option(group)));
  shownPictures = "";
  if (focused) {
    const again = [...document.querySelectorAll("[data-key]")]
      .find(element => element.dataset.key === focused);
    if (again) again.focus();
  }
}

function addEdited(list, label, open) {
  const item = addElement("li", "", list);
  item.dataset.label = label.name;
  const row = addElement("div", "row", item);
  addElement("span", "", row).textContent =
    label.name + (label.background ? " (background)" : "");
  addElement("span", "value", row);
  addKeep(row, label.name, label.name);

  addMeter(item).setAttribute("aria-label", `Score of ${label.name}`);
  if (!label.background) addThreshold(item, label);
  addMore(item, label, open);
}

function addThreshold(item, label) {
  const frame = addElement("label", "on-from", item);
  const text = addElement("span", "", frame);
  const slider = addControl("input", frame, `threshold ${label.name}`);
  slider.type = "range";
  slider.setAttribute("aria-label", `Threshold of ${label.name}`);
  slider.oninput = () => {
    text.textContent = `On from ${slider.value} %`;
    slider.setAttribute("aria-valuetext", `${slider.value} %`);
  };
  slider.onchange = () => {
    label.threshold = Number(slider.value) / 100;
    isDirty = true;
  };
  const [, inUse] = lastScores[label.name] || [];
  slider.value = percent(label.threshold ?? inUse ?? 0);
  slider.oninput();
}

function addMore(item, label, open) {
  const more = addElement("details", "", item);
  more.dataset.key = `more ${label.name}`;
  more.open = open.has(more.dataset.key);
  addControl("summary", more, `summary ${label.name}`, "More")
    .setAttribute("aria-label", `More about ${label.name}`);
  const form = addElement("form", "", more);

  const group = addLabelled("input", form, `group ${label.name}`, "Group");
  group.value = label.group;
  group.maxLength = 300;
  group.setAttribute("list", "groups");
  const prompts = addLabelled("textarea", form, `prompts ${label.name}`, "Prompts, one a line");
  prompts.value = label.prompts.join("\n");
  const background = addLabelled("input", form, `background ${label.name}`, "Background");
  background.type = "checkbox";
  background.checked = label.background;
  const remove = addControl("button", form, `remove ${label.name}`, "Remove");
  remove.setAttribute("aria-label", `Remove ${label.name}`);
  addUndo(form, label.name, label.name);

  group.onchange = () => {
    label.group = group.value.trim() || "labels";
    isDirty = true;
  };
  prompts.onchange = () => {
    label.prompts = prompts.value.split("\n").map(line => line.trim()).filter(Boolean);
    isDirty = true;
  };
  background.onchange = () => changeRows(() => {
    label.background = background.checked;
    if (label.background) Object.assign(label, {threshold: null, any_view: false});
  });
  remove.onclick = () => changeRows(() => {
    draft.labels = draft.labels.filter(other => other !== label);
    byId("phrase").focus();
  });
  form.onsubmit = event => event.preventDefault();
}

function showScores(scores) {
  lastScores = scores;
  [...byId("edited").children].forEach((item, i) => {
    const [score, threshold] = scores[item.dataset.label] || [null, null];
    const text = score === null ? "…" : `${percent(score)} %`;
    item.querySelector(".value").textContent = text;
    item.className = score !== null && score >= threshold ? "is-over" : "";
    showMeter(item.querySelector(".meter"), score || 0, text);

    const slider = item.querySelector("input[type=range]");
    const wanted = String(percent(draft.labels[i].threshold ?? threshold));
    if (!slider || slider.matches(":active") || slider.value === wanted) return;
    slider.value = wanted;
    slider.oninput();
  });
}

function addKeep(parent, name, title) {
  const keep = addControl("button", parent, `keep ${name}`, "This is it");
  keep.dataset.title = title;
  keep.onclick = () => waiting.push(["keep", {label: name, seq: shownSeq}]);
}

function addUndo(parent, name, title) {
  const undo = addControl("button", parent, `undo ${name}`, "Remove newest picture");
  undo.setAttribute("aria-label", `Remove newest picture of ${title}`);
  undo.onclick = () => waiting.push(["remove", {label: name}]);
}

function addTaught(list, name, title, isLabel) {
  const row = addElement("div", "row", addElement("li", "", list));
  addElement("span", "", row).textContent = title;
  addUndo(row, name, title);
  if (isLabel) addKeep(row, name, title);
}

// How many there are is on the buttons that keep and remove them.
function showPictures(pictures) {
  const key = JSON.stringify(pictures);
  if (key === shownPictures) return;
  shownPictures = key;

  const known = new Set([NONE, ...draft.labels.map(label => label.name)]);
  const gone = Object.keys(pictures).filter(name => !known.has(name));
  const list = byId("teach");
  if (list.dataset.gone !== gone.join("\n")) {
    list.dataset.gone = gone.join("\n");
    list.replaceChildren();
    addTaught(list, NONE, "None of these", true);
    gone.forEach(name => addTaught(list, name, `${name}, which is no label now`, false));
  }

  for (const button of document.querySelectorAll("#edit button[data-key]")) {
    const [, action, name] = button.dataset.key.match(/^(\w+) ?(.*)$/s);
    const count = pictures[name] || 0;
    if (action === "undo") button.hidden = !count;
    if (action !== "keep") continue;
    button.textContent = count ? `This is it (${count})` : "This is it";
    button.setAttribute("aria-label", `${button.textContent}: ${button.dataset.title}`);
  }
  const total = Object.values(pictures).reduce((sum, count) => sum + count, 0);
  setText("learn", `Learn from ${total} pictures`);
  byId("learn").disabled = !total;
}

function showNotice(notice) {
  if (shownNotice !== null && notice.number !== shownNotice) {
    say(notice.text, notice.is_error);
    byId("edit-line").hidden = !notice.line;
    byId("edit-line").firstChild.textContent = notice.line;
  }
  shownNotice = notice.number;
}

async function loadLabels() {
  const answer = await fetch(here("labels"), {cache: "no-store"});
  const said = await answer.json();
  if (!answer.ok) return say(said.error, true);
  const isSame = JSON.stringify(said.set) === JSON.stringify(draft);
  draft = said.set;
  draftVersion = said.version;
  isDirty = false;
  if (!isSame) showDraft();
}

// True where the server has taken it; else the page says why.
async function send(path, body) {
  const answer = await fetch(here(path), {
    method: "POST",
    headers: {"Content-Type": "application/json", "X-Edge-Label": "page"},
    body: JSON.stringify(body),
  });
  if (answer.ok) return true;
  const text = await answer.text();
  say(text.startsWith("{") ? JSON.parse(text).error : text.trim(), true);
  return false;
}

async function sendDraft() {
  const groups = draft.labels.map(label => label.group);
  draft.temperatures = Object.fromEntries(
    Object.entries(draft.temperatures).filter(([group]) => groups.includes(group)));
  isDirty = false;
  isSent = true;
  if (await send("labels", {version: draftVersion, set: draft})) return;
  isSent = false;
  await loadLabels();
}

// At every look: what goes on, and the next request, one at a time.
async function showEdit(edit) {
  if (!draft) await loadLabels();
  if (!draft) return;
  showNotice(edit.notice);
  showScores(edit.scores);
  showPictures(edit.pictures);
  byId("edit").setAttribute("aria-busy", Boolean(edit.doing));
  if (edit.doing) return;

  if (isSent) {
    isSent = false;
    // What was sent is in use, and the draft may have other changes already. Else it was refused.
    if (edit.version === draftVersion + 1) draftVersion = edit.version;
    else await loadLabels();
  } else if (edit.version !== draftVersion && !isDirty) {
    await loadLabels();  // somebody else has changed them; a draft that is dirty will be refused
  }

  if (isDirty) return sendDraft();
  const next = waiting.shift();
  if (!next) return;
  const isTaken = await send(...next);
  if (next[0] === "learn") isSent = isTaken;
}

byId("add").onsubmit = event => {
  event.preventDefault();
  const phrase = byId("phrase").value.trim();
  if (!phrase || !draft) return;
  const kind = byId("kind").value;
  changeRows(() => {
    if (kind === "all") {
      draft.background.push(phrase);
      return;
    }
    const last = draft.labels[draft.labels.length - 1];
    const group = byId("group").value.trim() || (last ? last.group : "labels");
    draft.labels.push({
      name: phrase, prompts: [], threshold: null, bias: 0, group, background: kind === "group",
    });
  });
  byId("phrase").value = "";
  say(`Adding ${phrase} …`, false);
};

byId("learn").onclick = () => {
  waiting.push(["learn", {}]);
  say("Learning …", false);
};

byId("save").onsubmit = event => {
  event.preventDefault();
  waiting.push(["save", {name: byId("name").value}]);
};
