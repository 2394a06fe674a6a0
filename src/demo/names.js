/**
 * Display names of users. Messages carry them; and members of a room tell them in an ephemeral room beside it, so that
 * a name is known before its user has written.
 */

const key = "names";
const namesMax = 200;
/** Those who came in are announced by name if it is known within this time. */
const patienceMs = 1500;
/** Everybody answers a newcomer, but not at once. */
const spreadMs = 400;

export function createNames({ ownName, onLearnt }) {
  const names = new Map(JSON.parse(sessionStorage.getItem(key) ?? "[]"));
  const waits = new Set();
  let beside = null;
  let telling = null;

  function learn(user, name) {
    if (typeof name !== "string" || name === "" || names.get(user) === name) return;
    names.delete(user);
    names.set(user, name.slice(0, 40));
    sessionStorage.setItem(key, JSON.stringify([...names].slice(-namesMax)));
    for (const look of waits) look();
    onLearnt();
  }

  function tell() {
    telling ??= setTimeout(() => {
      telling = null;
      beside?.publish({ name: ownName() }).catch(() => {}); // then users are called by what the node calls them
    }, Math.random() * spreadMs);
  }

  return {
    of: (user) => names.get(user),
    learn,
    /** Says our name to the others, soon. */
    tell,
    /** Follows another room. A node, or a token, may refuse the room beside it. */
    enter(client, room) {
      beside?.leave();
      beside = client.join(`live:names of ${room}`, { onPublication: ({ sender, data }) => learn(sender, data?.name) });
      beside.on("joined", tell);
    },
    /** Calls back when all these users have names, or after a moment. */
    known(users, then) {
      const look = () => {
        if (!users.every((user) => names.has(user))) return;
        end();
      };
      const end = () => {
        clearTimeout(timer);
        if (waits.delete(look)) then();
      };
      const timer = setTimeout(end, patienceMs);
      waits.add(look);
      look();
    },
  };
}
