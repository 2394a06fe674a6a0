/** The list of messages. Everything from the network is shown as text only. */

const rowsMax = 500;
/** Messages of one sender within this time share one heading. */
const groupMs = 120_000;
/** Within this distance of the end, the list scrolls with new messages. */
const followPx = 80;

export function createLog({ scroll, list, newest }) {
  let last = null; // sender and time of the last row

  newest.addEventListener("click", toEnd);
  scroll.addEventListener("scroll", () => {
    if (isAtEnd()) newest.hidden = true;
  });

  function isAtEnd() {
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < followPx;
  }

  function toEnd() {
    scroll.scrollTop = scroll.scrollHeight;
    newest.hidden = true;
  }

  function add(row, isOwn) {
    const follow = isOwn || isAtEnd();
    list.append(row);
    while (list.childElementCount > rowsMax) list.firstElementChild.remove();
    if (follow) toEnd();
    else newest.hidden = false;
  }

  return {
    toEnd,
    /** While busy, screen readers announce nothing: the rows are not news. */
    busy(isBusy) {
      scroll.ariaBusy = String(isBusy);
    },
    clear() {
      list.replaceChildren();
      last = null;
    },
    message({ sender, name, text, time, seq, isOwn }) {
      list.querySelector(".empty")?.remove();
      const isFirst = last === null || last.sender !== sender || last.name !== name || time - last.time > groupMs;
      const row = element("li", isFirst ? "message first" : "message");
      if (isOwn) row.classList.add("own");
      if (isFirst) row.append(avatar(sender, name), heading({ sender, name, time }));
      const body = element("p", "text", text);
      body.title = `${time.toLocaleString()}, position ${seq}`;
      row.append(body);
      last = { sender, name, time };
      add(row, isOwn);
    },
    notice(text, kind = "") {
      last = null;
      add(element("li", `notice ${kind}`, text), false);
    },
  };
}

export function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Without the position: positions may skip numbers, so they are no message numbers. */
function heading({ sender, name, time }) {
  const meta = element("p", "meta");
  const when = element("time", "", time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  when.dateTime = time.toISOString();
  meta.append(element("span", "who", name), element("span", "user", sender), when);
  return meta;
}

export function avatar(sender, name) {
  const round = element("span", "avatar", [...name.trim()][0]?.toUpperCase() ?? "?");
  round.ariaHidden = "true";
  let hue = 0;
  for (const char of sender) hue = (hue * 31 + char.codePointAt(0)) % 360;
  round.style.setProperty("--hue", hue);
  return round;
}
