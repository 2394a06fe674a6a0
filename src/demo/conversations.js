/**
 * Messages of the room and of each user, shown or not. After a reload the node sends the room's messages again. Direct
 * messages are delivered once per device, so this tab stores them.
 */

const rowsMax = 500;
const kept = { key: "direct", users: 20, rows: 50 };

/** Key of the room's rows. Users have theirs under their names. */
export const room = "";

export function createConversations({ log, onUnread }) {
  const rows = new Map([[room, []]]);
  const unread = new Map();
  let shown = room;
  load();

  function draw(row) {
    if (row.kind === "notice") log.notice(row.text, row.style);
    else log.message(row);
  }

  function add(where, row) {
    if (!rows.has(where)) rows.set(where, []);
    const list = rows.get(where);
    if (list.at(0)?.style === "empty") list.shift();
    list.push(row);
    if (list.length > rowsMax) list.shift();
    if (where !== room) save();
    if (where === shown) draw(row);
  }

  function count(user, messages) {
    if (messages === 0) unread.delete(user);
    else unread.set(user, messages);
    save();
    onUnread();
  }

  /** Stores the last messages of the most recent users. */
  function save() {
    const users = [...rows.keys()].filter((user) => user !== room).slice(-kept.users);
    const saved = users.map((user) => [user, rows.get(user).slice(-kept.rows), unread.get(user) ?? 0]);
    try {
      sessionStorage.setItem(kept.key, JSON.stringify(saved));
    } catch (error) {
      console.info("direct messages cannot be stored for a reload:", error.message);
    }
  }

  function load() {
    for (const [user, list, messages] of JSON.parse(sessionStorage.getItem(kept.key) ?? "[]")) {
      rows.set(user, list.map((row) => ({ ...row, time: new Date(row.time) })));
      if (messages > 0) unread.set(user, messages);
    }
  }

  return {
    get shown() {
      return shown;
    },
    /** Users with direct messages. */
    get users() {
      return [...rows.keys()].filter((user) => user !== room);
    },
    unreadOf: (user) => unread.get(user) ?? 0,
    get unread() {
      return [...unread.values()].reduce((sum, messages) => sum + messages, 0);
    },
    message(where, message) {
      add(where, { kind: "message", ...message });
      if (where !== room && where !== shown && !message.isOwn) count(where, (unread.get(where) ?? 0) + 1);
    },
    notice(where, text, style = "") {
      add(where, { kind: "notice", text, style });
    },
    show(where) {
      shown = where;
      log.busy(true);
      log.clear();
      for (const row of rows.get(where) ?? []) draw(row);
      log.toEnd();
      log.busy(false);
      if (unread.has(where)) count(where, 0);
    },
    /** Called when another room is entered. */
    clearRoom() {
      rows.set(room, []);
      if (shown === room) log.clear();
    },
  };
}
