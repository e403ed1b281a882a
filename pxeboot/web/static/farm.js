// Keeps the farm's page as the server has it: rows that changed come as HTML, and go to their place by name.
// Without this the page is whole, and is loaded anew now and then.

const ORDER = ["stuck", "waiting", "booting", "up", "quiet"];
const LOST_AFTER_MS = 5000;
const FOLLOW_AGAIN_MS = 10000;
const SLICE_MS = 6;
const AT_ONCE = 20;
const ANEW_MS = 5000;
const TYPED_MS = 250;

const body = document.body;
const live = document.getElementById("live");
const filter = document.getElementById("filter");
const groups = Object.fromEntries(ORDER.map((state) => [state, document.getElementById(`rows-${state}`)]));
const rows = new Map(); // name → {row, state, name, key, pool}, and its text once that was searched
const maker = document.createElement("template");
const heading = document.querySelector("h1");
const title = document.title.replace(/^\(.*?\) /, "");
let ahead = Number(body.dataset.now) - Date.now() / 1000; // the server's clock against ours

let isCut = body.hasAttribute("data-cut"); // more machines than one page shows: the server chooses, and we ask it anew

body.classList.add("scripted");

const natural = (name) => name.replace(/\d+/g, (digits) => digits.padStart(8, "0"));

function known(row, state) {
  const name = row.dataset.name;
  return { row, state, name, key: natural(name), pool: row.dataset.pool };
}

for (const [state, group] of Object.entries(groups)) {
  for (const row of group.querySelectorAll("tr[data-name]")) rows.set(row.dataset.name, known(row, state));
}

// Which machines are wanted: by the form, or by a count that was clicked.
const wanted = () => ({ text: filter.q.value.trim().toLowerCase(), pool: filter.pool.value, state: filter.state.value });

function suits(one, want) {
  if (isCut) return true; // the server chose
  return (!want.state || one.state === want.state) && (!want.pool || one.pool === want.pool) && (!want.text || (one.text ??= one.row.textContent.toLowerCase()).includes(want.text));
}

function headings() {
  let shown = 0;
  for (const [state, group] of Object.entries(groups)) {
    let here = 0;
    for (let row = group.firstElementChild.nextElementSibling; row; row = row.nextElementSibling) here += !row.hidden;
    const head = group.querySelector(".group span");
    if (!isCut && head.textContent !== String(here)) head.textContent = here;
    group.hidden = head.textContent === "0";
    shown += here;
  }
  document.getElementById("empty").hidden = shown > 0;
}

function refilter() {
  const want = wanted();
  if (isCut) anew(TYPED_MS);
  else for (const one of rows.values()) {
    const hidden = !suits(one, want);
    if (one.row.hidden !== hidden) one.row.hidden = hidden;
  }
  for (const link of document.querySelectorAll("#counts a")) {
    if (link.dataset.state === want.state) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  headings();
  const query = new URLSearchParams(Object.entries({ q: want.text, pool: want.pool, state: want.state }).filter(([, value]) => value));
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

filter.addEventListener("input", refilter);
filter.addEventListener("submit", (event) => { event.preventDefault(); refilter(); });
document.addEventListener("click", (event) => {
  const link = event.target.closest("#counts a, #side a[href^='?pool=']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.dataset.state) filter.state.value = filter.state.value === link.dataset.state ? "" : link.dataset.state;
  else filter.pool.value = new URLSearchParams(link.getAttribute("href")).get("pool");
  refilter();
});

// Rows are in order of their keys, behind the heading of their group.
function place(one) {
  const list = groups[one.state].rows;
  let low = 1;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const name = list[middle].dataset.name;
    const key = natural(name);
    if (key < one.key || (key === one.key && name < one.name)) low = middle + 1;
    else high = middle;
  }
  groups[one.state].insertBefore(one.row, list[low] ?? null);
}

function put(name, state, row, want) {
  const before = rows.get(name);
  const one = known(row, state);
  row.hidden = !suits(one, want);
  const held = before?.row.contains(document.activeElement);
  if (before && before.state === state) before.row.replaceWith(row);
  else {
    before?.row.remove();
    place(one);
    row.classList.add("fresh");
  }
  if (held) row.querySelector("a").focus({ preventScroll: true });
  rows.set(name, one);
}

// In a farm that is cut, the page is asked for anew when something changed, and what it shows replaces what we show.
let due;
let asked = 0;
function anew(wait) {
  if (due && wait > TYPED_MS) return;
  clearTimeout(due);
  due = setTimeout(async () => {
    due = undefined;
    if (document.hidden) return anew(ANEW_MS);
    const mine = ++asked;
    try {
      const response = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!response.ok) throw new Error(String(response.status));
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (mine === asked) adopt(page);
    } catch { anew(2 * ANEW_MS); }
  }, wait);
}

function adopt(page) {
  const there = new Set();
  for (const state of ORDER) {
    const group = page.getElementById(`rows-${state}`);
    groups[state].querySelector(".group span").textContent = group.querySelector(".group span").textContent;
    for (const row of group.querySelectorAll("tr[data-name]")) {
      there.add(row.dataset.name);
      const before = rows.get(row.dataset.name);
      if (before?.state === state && isSame(before.row, row)) continue;
      pending.set(row.dataset.name, [row.dataset.name, state, row.outerHTML]);
    }
  }
  const more = document.getElementById("more");
  const said = page.getElementById("more");
  more.textContent = said.textContent;
  more.hidden = said.hidden;
  forget([...rows.keys(), ...pending.keys()].filter((name) => !there.has(name)));
  requestAnimationFrame(putSome);
}

function isSame(before, row) {
  const [time, other] = [before.querySelector("time"), row.querySelector("time")];
  if (time && other) other.textContent = time.textContent; // we count on ourselves
  return before.innerHTML === row.innerHTML;
}

function forget(names) {
  for (const name of names) {
    rows.get(name)?.row.remove();
    rows.delete(name);
    pending.delete(name);
  }
}

// Changes are put in a few at a time, between two frames, so that a farm that boots at once does not halt the page.
// Of a machine that changed twice meanwhile, the newest is put in. A page that nobody looks at has time.
const pending = new Map(); // name → [name, state, html]

function putSome() {
  const end = performance.now() + SLICE_MS;
  const want = wanted();
  while (pending.size && performance.now() < end) {
    const some = [];
    for (const change of pending.values()) {
      some.push(change);
      if (some.length === AT_ONCE) break;
    }
    maker.innerHTML = `<table><tbody>${some.map(([, , html]) => html).join("")}</tbody></table>`;
    const made = [...maker.content.querySelectorAll("tr")];
    some.forEach(([name, state], number) => {
      pending.delete(name);
      put(name, state, made[number], want);
    });
  }
  if (pending.size) requestAnimationFrame(putSome);
  headings();
}

function told(event) {
  const news = JSON.parse(event.data);
  ahead = news.now - Date.now() / 1000;
  if (news.whole) {
    const there = new Set(news.rows.map(([name]) => name));
    news.gone = [...rows.keys(), ...pending.keys()].filter((name) => !there.has(name));
  }
  if (isCut && !news.cut) location.reload();
  isCut = news.cut;
  if (isCut) anew(ANEW_MS);
  forget(news.gone);
  if (!pending.size) requestAnimationFrame(putSome);
  for (const change of news.rows) pending.set(change[0], change);
  let total = 0;
  for (const link of document.querySelectorAll("#counts a")) {
    const count = news.counts[link.dataset.state];
    total += count;
    link.firstElementChild.textContent = count;
    link.parentElement.classList.toggle("none", !count);
  }
  heading.textContent = `${total} machine${total === 1 ? "" : "s"}`;
  document.title = (news.counts.stuck ? `(${news.counts.stuck} stuck) ` : "") + title;
  if (news.side !== undefined) renew("side", news.side);
  if (news.notices !== undefined) renew("notices", news.notices);
  announce(news.counts.stuck);
}

// What stands beside the machines is replaced whole, if it is other than before. Who is at a link there stays at it,
// and what was opened stays open.
const shown = new Map();
function renew(id, html) {
  if (shown.get(id) === html) return;
  shown.set(id, html);
  const part = document.getElementById(id);
  const at = part.contains(document.activeElement) ? document.activeElement : null;
  const open = [...part.querySelectorAll("details")].map((one) => one.open);
  part.innerHTML = html;
  part.querySelectorAll("details").forEach((one, number) => { one.open = open[number] ?? false; });
  if (!at) return;
  const same = [...part.querySelectorAll("a, summary")].find((one) => one.getAttribute("href") === at.getAttribute("href") && one.textContent === at.textContent);
  same?.focus({ preventScroll: true });
}

// Who listens is told when more is wrong than before, and of nothing else: no row reads itself aloud.
let wrong = [Number(document.querySelector("#counts .stuck b").textContent), document.querySelectorAll("#notices .error").length];
function announce(stuck) {
  const troubles = document.querySelectorAll("#notices .error").length;
  const words = [];
  if (stuck > wrong[0]) words.push(`${stuck} machine${stuck === 1 ? " is" : "s are"} stuck`);
  if (troubles > wrong[1]) words.push(document.querySelector("#notices .error b").textContent);
  wrong = [stuck, troubles];
  if (words.length) document.getElementById("alarm").textContent = words.join(". ");
}

// Times go on while nothing happens. Only those are written that read otherwise than before.
function ago(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
}

setInterval(() => {
  if (document.hidden) return;
  const now = Date.now() / 1000 + ahead;
  for (const { row } of rows.values()) {
    if (row.hidden) continue;
    const time = row.querySelector("time");
    if (!time) continue;
    const said = ago(now - time.dataset.at);
    if (time.firstChild.data !== said) time.firstChild.data = said;
  }
}, 1000);

// The stream. A browser asks again by itself, but not when it was refused: then we do.
let lost;
function say(words, kind) {
  if (live.textContent !== words) live.textContent = words;
  live.className = `live ${kind}`;
}

function follow(address) {
  const events = new EventSource(address);
  events.addEventListener("open", () => { clearTimeout(lost); lost = undefined; say("live", "on"); });
  events.addEventListener("farm", told);
  events.addEventListener("error", () => {
    lost ??= setTimeout(() => say("no answer from the server", "lost"), LOST_AFTER_MS);
    if (events.readyState === EventSource.CLOSED) setTimeout(() => follow("events?since="), FOLLOW_AGAIN_MS);
  });
}

say("connecting", "");
follow(body.dataset.events);
if (location.search) refilter();
