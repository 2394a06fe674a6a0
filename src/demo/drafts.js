/** Text that is not sent yet, kept over a reload: what stands in the field, and messages on their way. */

const fieldKey = "drafts";
const waitingKey = "waiting";
/** The node knows keys for two minutes: a message that is older might count twice. */
const keyMs = 120_000;
const waitingMax = 50;

export function createDrafts() {
  const fields = new Map(read(fieldKey));
  let waiting = read(waitingKey).filter(({ at }) => Date.now() - at < keyMs);
  const taken = new Set();

  return {
    text: (where) => fields.get(where) ?? "",
    write(where, text) {
      if (text === "") fields.delete(where);
      else fields.set(where, text);
      write(fieldKey, [...fields]);
    },
    add(message) {
      taken.add(message.key);
      if (waiting.some(({ key }) => key === message.key)) return;
      waiting = [...waiting, { ...message, at: Date.now() }].slice(-waitingMax);
      write(waitingKey, waiting);
    },
    remove(key) {
      waiting = waiting.filter((one) => one.key !== key);
      write(waitingKey, waiting);
    },
    /** Messages that an earlier page did not get rid of: those into this room, and to users. */
    waiting: (room) => waiting.filter((one) => !taken.has(one.key) && (one.where !== "" || one.room === room)),
  };
}

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "[]");
  } catch {
    return [];
  }
}

function write(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch (error) {
    console.info("unsent text cannot be stored for a reload:", error.message);
  }
}
