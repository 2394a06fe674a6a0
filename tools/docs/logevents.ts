/** The page of the log's events: each name, its levels and its texts. */
import { eventOf, events, ownEvents } from "../../src/platform/log/events.ts";
import { logCalls } from "./logcalls.ts";

export function logEventsDoc(): string {
  const calls = logCalls().flatMap(({ level, text }) => (text === null ? [] : [{ level, text, event: eventOf(text.replaceAll("*", "x")) }]));
  const rows = Object.entries(events).map(([event, beginnings]) => {
    const own = calls.filter((call) => call.event === event);
    const levels = [...new Set(own.map(({ level }) => level))].sort().join(", ");
    const texts = [...new Set(own.map(({ text }) => text))];
    return `| \`${event}\` | ${levels || "warn"} | ${(texts.length > 0 ? texts : beginnings).map(cell).join("<br>")} |`;
  });
  const named = Object.entries(ownEvents).map(([event, text]) => `| \`${event}\` | ${text} |`);
  return `## Events with a fixed text

| event | level | text |
|---|---|---|
${rows.join("\n")}

## Events with fields of their own

| event | meaning |
|---|---|
${named.join("\n")}
`;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;").replaceAll("*", "\\*");
}
