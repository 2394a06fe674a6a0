import { connect } from "/flux-client.js";
import { createConversations, room as inRoom } from "./conversations.js";
import { createDrafts } from "./drafts.js";
import { createFinder } from "./finder.js";
import { createLog, element } from "./log.js";
import { createNames } from "./names.js";
import { createPeople } from "./people.js";
import { createTokenNote, takeToken, token } from "./token.js";
import { createVitals } from "./vitals.js";

const defaultRoom = "chat:lobby";
const historyOnJoin = 50;
const pingEveryMs = 2000;
/** In larger rooms, joins and leaves are too frequent to announce. */
const announcedMax = 30;

const byId = (id) => document.getElementById(id);
const log = createLog({ scroll: byId("scroll"), list: byId("log"), newest: byId("newest") });
const vitals = createVitals({
  latency: byId("latency"), note: byId("latency-note"), spark: byId("spark"), rate: byId("rate"), received: byId("received"),
});

const conversations = createConversations({ log, onUnread: showPeople });
const people = createPeople({
  list: byId("people-list"), count: byId("people-count"), more: byId("people-more"), badge: byId("people-unread"),
  nameOf, isOwn: (user) => own.has(user), onPick: talkTo,
});

const tokenNote = createTokenNote({
  note: byId("entry"), title: byId("entry-title"), text: byId("entry-text"), address: byId("entry-address"),
});

const message = byId("message");
const drafts = createDrafts();

let client = null;
let room = null;
let members = null;

// ------------------------------------------------------------ who we are

const birds = ["Avocet", "Bittern", "Curlew", "Dipper", "Egret", "Fulmar", "Goldeneye", "Heron", "Kestrel", "Lapwing", "Merlin", "Osprey", "Plover", "Siskin", "Tern", "Wren"];
const manners = ["Brisk", "Calm", "Dapper", "Eager", "Gentle", "Keen", "Lucky", "Mellow", "Nimble", "Patient", "Quiet", "Steady"];
const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** Users that this tab has been. Without a token, a node chooses a new user for each session. */
const own = new Set(JSON.parse(sessionStorage.getItem("users") ?? "[]"));

const nickname = byId("nickname");
nickname.value = localStorage.getItem("nickname") || `${pick(manners)} ${pick(birds)}`;
keepNickname();
nickname.addEventListener("change", () => {
  keepNickname();
  names.tell();
  showPeople();
});
byId("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepNickname();
  byId("message").focus();
});

function keepNickname() {
  nickname.value = nickname.value.trim() || `${pick(manners)} ${pick(birds)}`;
  localStorage.setItem("nickname", nickname.value);
}

const names = createNames({ ownName: () => nickname.value, onLearnt: showPeople });

function nameOf(user) {
  return own.has(user) && user === client?.session?.user ? nickname.value : (names.of(user) ?? user);
}

function showSession({ user, session, node, resumed }) {
  own.add(user);
  sessionStorage.setItem("users", JSON.stringify([...own].slice(-50)));
  byId("user").textContent = user;
  byId("session-id").textContent = session;
  byId("node").textContent = node;
  byId("session-kind").textContent = resumed ? "resumed" : "new";
  byId("session-kind").dataset.kind = resumed ? "resumed" : "new";
  byId("session-kind").hidden = false;
  watchWriters();
  showPeople();
}

// ------------------------------------------------------------ connection

function start() {
  finder.begin();
  client = connect(finder.url, { name: "flux-gateway demo page", token: token(), locate: finder.locate });
  client.on("ready", showSession);
  client.on("ready", finder.reached);
  client.on("closed", ({ code }) => finder.isRefused(code) && start());
  client.on("ready", measure);
  client.on("state", showState);
  client.on("error", showError);
  client.on("status", showStatus);
  client.onMessage(showDirect);
  client.inbox.on("gap", () => conversations.notice(conversations.shown, "Older direct messages are lost", "gap"));
  showState({ state: client.state });
  enter(roomOfUrl());
}

/** What is wrong with the connection stands beside its state, and is over when that is. */
function showError({ code, message }) {
  if (code === "unreachable") byId("state-text").title = message;
  else conversations.notice(conversations.shown, message, "gap");
}

const finder = createFinder({ token });
let countdown = null;

function showState({ state, retryInMs, cause }) {
  clearInterval(countdown);
  byId("state").dataset.state = state;
  if (state === "ready") byId("state-text").title = "";
  byId("again").hidden = state !== "closed";
  tokenNote.show(state === "closed" ? cause?.code : 0);
  if (state !== "ready") vitals.noPing();
  if (state === "waiting") return countDown(retryInMs);
  const texts = { connecting: "connecting…", ready: "connected", closed: `closed: ${cause?.text ?? ""}` };
  byId("state-text").textContent = texts[state];
}

function countDown(retryInMs) {
  const until = performance.now() + retryInMs;
  const show = () => {
    const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    byId("state-text").textContent = `disconnected, reconnecting in ${seconds} s`;
  };
  show();
  countdown = setInterval(show, 250);
}

byId("again").addEventListener("click", start);

setInterval(measure, pingEveryMs);

function measure() {
  if (client.state === "ready") client.ping().then(vitals.ping, vitals.noPing);
}

// ------------------------------------------------------------ room

function roomOfUrl() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || defaultRoom;
  } catch {
    return location.hash.slice(1); // not percent-encoded: used unchanged
  }
}

function encoded(name) {
  return encodeURIComponent(name.trim()).replaceAll("%3A", ":");
}

function enter(name) {
  members?.stop();
  room?.leave();
  byId("room").value = name;
  byId("back-room").textContent = name;
  conversations.clearRoom();
  showRoom();
  byId("position").textContent = "–";
  const notice = (text, style) => conversations.notice(inRoom, text, style);

  // What is there already is no news to a screen reader.
  log.busy(true);
  const entered = client.join(name, { history: historyOnJoin, onPublication: showPublication });
  for (const event of ["live", "left"]) entered.on(event, () => log.busy(false));
  let isFirst = true;
  entered.on("joined", ({ position }) => {
    if (isFirst && position.seq === 0) notice("Nobody has said anything here yet.", "empty");
    isFirst = false;
    showPosition(position);
  });
  entered.on("recovered", ({ publications }) => {
    notice(publications === 1 ? "1 missed message recovered" : `${publications} missed messages recovered`, "recovered");
  });
  entered.on("gap", ({ from, to, text }) => {
    // Positions may skip numbers: they do not tell how many.
    notice(from.epoch === to.epoch ? `Messages are lost here: ${text}` : `Older messages are lost: ${text}`, "gap");
  });
  entered.on("error", (error) => notice(`${name}: ${error.text}`, "gap"));
  room = entered;
  members = keepMembers(entered);
  names.enter(client, name);
  showPeople();
  for (const { where, text, key } of drafts.waiting(name)) send(text, where, key);
}

function showPublication({ sender, time, data, position, replayed }) {
  names.learn(sender, data?.name);
  conversations.message(inRoom, { ...read(sender, data), time, seq: position.seq, isOwn: own.has(sender) });
  showPosition(position);
  vitals.message({ isLive: !replayed });
}

/** A room or an inbox may contain any data. Data that this page did not write is shown as JSON. */
function read(sender, data) {
  const isOurs = typeof data?.text === "string";
  return {
    sender,
    name: typeof data?.name === "string" && data.name !== "" ? data.name : sender,
    text: isOurs ? data.text : data instanceof Uint8Array ? `${data.length} bytes` : JSON.stringify(data),
  };
}

function showPosition({ epoch, seq }) {
  byId("position").textContent = `${seq} of ${epoch}`;
}

byId("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encoded(byId("room").value);
  byId("message").focus();
});
addEventListener("hashchange", async () => {
  if (!takeToken(encoded(byId("room").value))) return enter(roomOfUrl());
  const before = client;
  await before.close();
  if (client === before) start();
});

// ------------------------------------------------------------ people

function keepMembers(entered) {
  const kept = entered.members();
  kept.on("changed", ({ joined, left, asked }) => {
    // Changes found by reading, at first or after a loss, did not happen just now.
    if (kept.users <= announcedMax) {
      if (joined.some((user) => !own.has(user))) names.tell();
      if (!asked) announce(joined, left);
    }
    showPeople();
  });
  kept.on("error", showPeople); // some rooms do not list their members
  return kept;
}

function announce(joined, left) {
  for (const [users, what] of [[joined, "came in"], [left, "left"]]) {
    const others = users.filter((user) => !own.has(user));
    if (others.length === 0) continue;
    const where = room;
    const say = () => {
      if (room !== where) return;
      const who = others.length <= 3 ? others.map(nameOf).join(", ") : `${others.length} people`;
      conversations.notice(inRoom, `${who} ${what}`);
    };
    names.known(others.length <= 3 ? others : [], say);
  }
}

function showPeople() {
  const { shown, users: writers, unreadOf, unread } = conversations;
  people.show({ members: members?.list ?? [], users: members?.users ?? 0, writers, unreadOf, shown });
  const name = byId("room").value;
  document.title = `${unread > 0 ? `(${unread}) ` : ""}${name} · flux-gateway`;
}

// ------------------------------------------------------------ direct messages

function showDirect({ sender, data, time, position }) {
  names.learn(sender, data?.name);
  conversations.message(sender, { ...read(sender, data), time, seq: position.seq, isOwn: own.has(sender) });
  watchWriters();
  showPeople();
}

const statuses = new Map();

function watchWriters() {
  const users = conversations.users.filter((user) => !statuses.has(user));
  for (const user of users) statuses.set(user, null);
  // A node may reject watching, or the list may be too long: then the status is not shown.
  if (users.length > 0) client.watch(users).catch(() => users.forEach((user) => statuses.delete(user)));
}

function showStatus(status) {
  statuses.set(status.user, status);
  if (conversations.shown !== status.user) return;
  const seen = status.lastSeen ? `last seen ${status.lastSeen.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}` : "offline";
  byId("with-status").textContent = status.online ? "online" : seen;
  byId("with-status").dataset.online = String(status.online);
}

function talkTo(user) {
  if (conversations.shown === user) return showRoom();
  conversations.show(user);
  byId("with").hidden = false;
  byId("with-name").textContent = nameOf(user);
  byId("with-status").textContent = "";
  if (statuses.get(user)) showStatus(statuses.get(user));
  showComposer(`Write to ${nameOf(user)}`);
  if (!wide.matches) byId("people").open = false;
  message.focus();
}

function showRoom() {
  conversations.show(inRoom);
  byId("with").hidden = true;
  showComposer("Write a message");
}

function showComposer(placeholder) {
  message.placeholder = placeholder;
  message.value = drafts.text(conversations.shown);
  for (const row of byId("outbox").children) row.hidden = row.dataset.where !== conversations.shown;
  showPeople();
}

byId("back").addEventListener("click", () => {
  showRoom();
  message.focus();
});

// ------------------------------------------------------------ sending

message.addEventListener("input", () => drafts.write(conversations.shown, message.value));
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (text === "") return;
  message.value = "";
  drafts.write(conversations.shown, "");
  message.focus();
  send(text);
});

/**
 * Shows the message as pending until the node has given it a position. It is kept over a reload with its key: sent
 * again, it counts once.
 */
async function send(text, where = conversations.shown, key = crypto.randomUUID?.() ?? `${Date.now()} ${Math.random()}`) {
  drafts.add({ key, where, room: byId("room").value, text });
  const row = element("li", "message");
  const fate = element("p", "fate", client.state === "ready" ? "" : "will be sent after reconnecting");
  row.dataset.where = where;
  row.hidden = where !== conversations.shown;
  row.append(element("p", "text", text), fate);
  byId("outbox").append(row);
  log.toEnd();
  try {
    await deliver(where, { text, name: nickname.value }, key);
    drafts.remove(key);
    row.remove();
  } catch (error) {
    // The page is left, or another room was entered: it is sent from there.
    if (error.code === "left") return row.remove();
    drafts.remove(key);
    row.classList.add("failed");
    fate.textContent = `not sent: ${error.text ?? error}`;
    const again = element("button", "quiet", "Try again");
    again.type = "button";
    again.addEventListener("click", () => {
      row.remove();
      send(text, where, key); // it may have taken place
    });
    fate.append(again);
  }
}

async function deliver(where, data, key) {
  if (where === inRoom) return room.publish(data, { key });
  const { seq } = await client.send(where, data, { key });
  const { user } = client.session ?? { user: [...own].at(-1) };
  conversations.message(where, { sender: user, name: data.name, text: data.text, time: new Date(), seq, isOwn: true });
  watchWriters();
  showPeople();
}

// ------------------------------------------------------------ layout

const wide = matchMedia("(min-width: 48.01rem)");
const fit = () => {
  for (const id of ["session", "people"]) byId(id).open = wide.matches;
};
wide.addEventListener("change", fit);
fit();

takeToken("");
start();
message.focus();
