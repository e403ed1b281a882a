// Follows one machine: waits for news, fetches the page again, and replaces the parts that are marked so.

const changed = new URL(document.body.dataset.changed, location.href);
const live = document.getElementById("live");
let stamp = document.body.dataset.stamp;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function isRead(part) {
  const selection = getSelection();
  return !selection.isCollapsed && part.contains(selection.anchorNode);
}

async function fresh() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok) throw new Error(String(response.status));
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = page.getElementById(part.id);
    if (!other || isRead(part)) continue;
    const lines = part.querySelector(".lines");
    const atEnd = lines && lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 4;
    const from = lines ? lines.scrollTop : 0;
    part.className = other.className;
    part.replaceChildren(...other.childNodes);
    const after = part.querySelector(".lines");
    if (after) after.scrollTop = atEnd ? after.scrollHeight : from;
  }
  document.title = page.title;
  stamp = page.body.dataset.stamp;
}

async function follow() {
  for (;;) {
    try {
      changed.searchParams.set("since", stamp);
      const response = await fetch(changed);
      if (!response.ok) throw new Error(String(response.status));
      live.className = "live on";
      live.textContent = "live";
      await fresh();
      await pause(300);
    } catch {
      live.className = "live lost";
      live.textContent = "no connection, trying again";
      await pause(3000);
    }
  }
}

for (const lines of document.querySelectorAll(".lines")) lines.scrollTop = lines.scrollHeight;
follow();
