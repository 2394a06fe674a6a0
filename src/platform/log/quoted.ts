/** Makes text from clients safe for a log line: on one line, and without characters that a terminal obeys. */

const unsafe = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

export function quoted(text: string): string {
  return printable(JSON.stringify(text));
}

export function printable(text: string): string {
  return text.replace(unsafe, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
