import { connect } from "/flux-client.js";
import { createLog, element } from "./log.js";
import { createVitals } from "./vitals.js";

const defaultRoom = "chat:lobby";
const historyOnJoin = 50;
const pingEveryMs = 2000;

const byId = (id) => document.getElementById(id);
const log = createLog({ scroll: byId("scroll"), list: byId("log"), newest: byId("newest") });
const vitals = createVitals({
  latency: byId("latency"), note: byId("latency-note"), spark: byId("spark"), rate: byId("rate"), received: byId("received"),
});

let client = null;
let room = null;

// ------------------------------------------------------------ who we are

const birds = ["Avocet", "Bittern", "Curlew", "Dipper", "Egret", "Fulmar", "Goldeneye", "Heron", "Kestrel", "Lapwing", "Merlin", "Osprey", "Plover", "Siskin", "Tern", "Wren"];
const manners = ["Brisk", "Calm", "Dapper", "Eager", "Gentle", "Keen", "Lucky", "Mellow", "Nimble", "Patient", "Quiet", "Steady"];
const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** Users this tab has been: a node that knows nobody makes up a new one for each session. */
const own = new Set(JSON.parse(sessionStorage.getItem("users") ?? "[]"));

const nickname = byId("nickname");
nickname.value = localStorage.getItem("nickname") || `${pick(manners)} ${pick(birds)}`;
keepNickname();
nickname.addEventListener("change", keepNickname);
byId("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepNickname();
  byId("message").focus();
});

function keepNickname() {
  nickname.value = nickname.value.trim() || `${pick(manners)} ${pick(birds)}`;
  localStorage.setItem("nickname", nickname.value);
}

function showSession({ user, session, node }) {
  own.add(user);
  sessionStorage.setItem("users", JSON.stringify([...own].slice(-50)));
  byId("user").textContent = user;
  byId("session-id").textContent = session;
  byId("node").textContent = node;
}

// ------------------------------------------------------------ connection

function start() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  client = connect(`${scheme}://${location.host}/ws`, { name: "flux-gateway demo page" });
  client.on("ready", showSession);
  client.on("ready", measure);
  client.on("state", showState);
  client.on("error", (error) => log.notice(error.message, "gap"));
  showState({ state: client.state });
  enter(roomOfUrl());
}

let countdown = null;

function showState({ state, retryInMs, cause }) {
  clearInterval(countdown);
  byId("state").dataset.state = state;
  byId("again").hidden = state !== "closed";
  if (state !== "ready") vitals.noPing();
  if (state === "waiting") return countDown(retryInMs);
  const texts = { connecting: "connecting…", ready: "connected", closed: `closed: ${cause?.text ?? ""}` };
  byId("state-text").textContent = texts[state];
}

function countDown(retryInMs) {
  const until = performance.now() + retryInMs;
  const show = () => {
    const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1000));
    byId("state-text").textContent = `connection lost, trying again in ${seconds} s`;
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
    return location.hash.slice(1); // not percent-encoded: take it as it is
  }
}

function enter(name) {
  room?.leave();
  byId("room").value = name;
  document.title = `${name} · flux-gateway`;
  log.clear();
  byId("outbox").replaceChildren();
  byId("position").textContent = "–";

  const entered = client.join(name, { history: historyOnJoin, onPublication: showPublication });
  entered.on("joined", ({ rejoined, position }) => {
    if (!rejoined && position.seq === 0) log.notice("Nobody has said anything here yet.", "empty");
    showPosition(position);
  });
  entered.on("recovered", ({ publications }) => {
    log.notice(publications === 1 ? "1 message was missed and recovered" : `${publications} messages were missed and recovered`, "recovered");
  });
  entered.on("gap", ({ from, to, text }) => {
    const count = from.epoch === to.epoch ? `${to.seq - from.seq} messages are gone` : "Older messages are gone";
    log.notice(`${count}: ${text}`, "gap");
  });
  entered.on("error", (error) => log.notice(`${name}: ${error.text}`, "gap"));
  room = entered;
}

function showPublication({ sender, time, data, position, replayed }) {
  // Anything may be in a room: what this page did not write is shown as the JSON it is.
  const isOurs = typeof data?.text === "string";
  log.message({
    sender,
    name: typeof data?.name === "string" && data.name !== "" ? data.name : sender,
    text: isOurs ? data.text : data instanceof Uint8Array ? `${data.length} bytes` : JSON.stringify(data),
    time,
    seq: position.seq,
    isOwn: own.has(sender),
  });
  showPosition(position);
  vitals.message({ isLive: !replayed });
}

function showPosition({ epoch, seq }) {
  byId("position").textContent = `${seq} of ${epoch}`;
}

byId("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent(byId("room").value.trim()).replaceAll("%3A", ":");
  byId("message").focus();
});
addEventListener("hashchange", () => enter(roomOfUrl()));

// ------------------------------------------------------------ sending

const message = byId("message");

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
  message.focus();
  send(text);
});

/** Shows the message as on its way until the node has given it its place. */
async function send(text) {
  const row = element("li", "message");
  const fate = element("p", "fate", client.state === "ready" ? "" : "will be sent when the connection is back");
  row.append(element("p", "text", text), fate);
  byId("outbox").append(row);
  log.toEnd();
  try {
    await room.publish({ text, name: nickname.value });
    row.remove();
  } catch (error) {
    row.classList.add("failed");
    fate.textContent = `not sent: ${error.text ?? error}`;
    const again = element("button", "quiet", "Try again");
    again.type = "button";
    again.addEventListener("click", () => {
      row.remove();
      send(text);
    });
    fate.append(again);
  }
}

// ------------------------------------------------------------ layout

const wide = matchMedia("(min-width: 48.01rem)");
const fitSession = () => (byId("session").open = wide.matches);
wide.addEventListener("change", fitSession);
fitSession();

start();
message.focus();
