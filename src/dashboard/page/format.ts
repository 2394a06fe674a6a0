/** Numbers as people read them. */
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function count(value: number): string {
  if (value >= 9_999_500) return `${small.format(value / 1_000_000)} M`;
  if (value >= 100_000) return `${small.format(value / 1_000)} k`;
  return value > 0 && value < 10 && !Number.isInteger(value) ? small.format(value) : number.format(value);
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let left = value;
  while (left >= 1_024 && unit < units.length - 1) {
    left /= 1_024;
    unit++;
  }
  return `${left < 10 && unit > 0 ? small.format(left) : number.format(left)} ${units[unit]}`;
}

export function duration(ms: number): string {
  if (ms < 0) return "never";
  if (ms < 1_000) return `${number.format(ms)} ms`;
  if (ms < 9_950) return `${small.format(ms / 1_000)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

export function percent(share: number): string {
  return `${number.format(share * 100)} %`;
}

export function time(ms: number): string {
  return clock.format(new Date(ms));
}
