/** The list of people: members of the room, and users with direct messages, with unread counts. */
import { avatar, element } from "./log.js";

const rowsMax = 60;

/** `nameOf` returns a user's display name; `onPick` opens direct messages with a user. */
export function createPeople({ list, count, more, badge, nameOf, isOwn, onPick }) {
  let drawn = "";

  function row({ user, isHere, unread, isShown }) {
    const item = element("li", isHere ? "person" : "person gone");
    const name = nameOf(user);
    if (isOwn(user)) {
      item.append(avatar(user, name), element("span", "who", name), element("span", "tag", "you"));
      return item;
    }
    const button = element("button", "pick");
    button.type = "button";
    button.dataset.user = user;
    button.title = isHere ? `Write to ${user}` : `${user} is not in the room`;
    button.ariaPressed = String(isShown);
    button.append(avatar(user, name), element("span", "who", name));
    if (name !== user) button.append(element("span", "user", user));
    if (!isHere) button.append(element("span", "tag", "away"));
    if (unread > 0) {
      const unreadBadge = element("span", "badge", String(unread));
      unreadBadge.append(element("span", "hidden", " unread"));
      button.append(unreadBadge);
    }
    button.addEventListener("click", () => onPick(user));
    item.append(button);
    return item;
  }

  return {
    /** `writers`: users with direct messages, in the room or not. */
    show({ members, users, writers, unreadOf, shown }) {
      const here = new Set(members.map(({ user }) => user));
      const own = [...here].filter(isOwn);
      const others = [...here].filter((user) => !isOwn(user) && !writers.includes(user));
      const rows = [...own, ...[...writers].reverse(), ...others].slice(0, rowsMax).map((user) => ({
        user, isHere: here.has(user), unread: unreadOf(user), isShown: user === shown,
      }));
      const unread = rows.reduce((sum, { unread }) => sum + unread, 0);
      count.textContent = users.toLocaleString();
      badge.textContent = String(unread);
      badge.hidden = unread === 0;
      more.textContent = `and ${(users - rows.length).toLocaleString()} more`;
      more.hidden = here.size + writers.length <= rowsMax && users <= here.size;
      // Unchanged rows stay, and with them the keyboard focus.
      const next = JSON.stringify(rows.map((row) => [row, nameOf(row.user)]));
      if (next === drawn) return;
      drawn = next;
      const focused = document.activeElement?.dataset?.user;
      list.replaceChildren(...rows.map(row));
      if (focused) [...list.querySelectorAll("button")].find(({ dataset }) => dataset.user === focused)?.focus();
    },
  };
}
