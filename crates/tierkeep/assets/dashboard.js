// Loads the page again every ten seconds and puts what it says in place of what is shown. A page says the same without it.
"use strict";

const PAUSE_MS = 10_000;
const main = document.getElementById("main");
const footer = document.querySelector("footer");
const stale = document.getElementById("stale");

// A page that is being used is left as it is: a replaced element would lose the focus or the selected text.
function isUsed() {
  const focused = document.activeElement;
  return document.hidden || (focused !== main && main.contains(focused)) || !getSelection().isCollapsed;
}

// Puts the new content in, and leaves open what is open and scrolled what is scrolled.
function show(fresh) {
  const notice = main.querySelector("#notice");
  if (notice && !fresh.querySelector("#notice")) {
    fresh.prepend(notice.cloneNode(true));
  }
  if (fresh.innerHTML === main.innerHTML) {
    return;
  }
  const open = [...main.querySelectorAll("details")].map((it) => it.open);
  const scrolled = [...main.querySelectorAll(".scroll")].map((it) => it.scrollLeft);
  main.replaceChildren(...fresh.childNodes);
  main.querySelectorAll("details").forEach((it, at) => { it.open = open[at] ?? it.open; });
  main.querySelectorAll(".scroll").forEach((it, at) => { it.scrollLeft = scrolled[at] ?? 0; });
}

async function refresh() {
  if (isUsed()) {
    return;
  }
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) {
    throw new Error(`the service answered ${answer.status}`);
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (answer.redirected || page.title !== document.title) {
    // The session has ended.
    location.reload();
    return;
  }
  if (!isUsed()) {
    show(page.getElementById("main"));
    footer.replaceChildren(...page.querySelector("footer").childNodes);
    stale.hidden = true;
  }
}

async function keepCurrent() {
  for (;;) {
    await new Promise((wake) => setTimeout(wake, PAUSE_MS));
    try {
      await refresh();
    } catch {
      stale.hidden = false;
    }
  }
}

keepCurrent();
