/** A few hundred attacks of `npm run fuzz`, on a node of its own; the long run is for people. */
import t from "tap";
import { fuzz } from "./fuzz.ts";

/** Which attackers come first differs. So it goes on until each of these endings was seen, or there were ten times as many. */
const attacks = 400;
const expected = ["3501", "3503", "3506", "1000"];
const missing = (endings: ReadonlyMap<string, number>) => expected.filter((code) => ![...endings.keys()].some((one) => one.startsWith(code)));

t.test("random bytes leave a node under load healthy, and its members whole", { timeout: 600_000 }, async (t) => {
  const report = await fuzz({ seed: 20_260_101, enough: (seen) => seen.attacks >= 10 * attacks || (seen.attacks >= attacks && missing(seen.endings).length === 0) });
  t.strictSame(report.faults, [], report.text);
  t.ok(report.attacks >= attacks, `${report.attacks} attacks`);
  t.same(missing(report.endings), [], "some ended with each of these");
});
