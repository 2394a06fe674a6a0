/** A few hundred attacks of `npm run fuzz`, on a node of its own; the long run is for people. */
import t from "tap";
import { fuzz } from "./fuzz.ts";

const attacks = 400;

t.test("random bytes leave a node under load healthy, and its members whole", { timeout: 600_000 }, async (t) => {
  const report = await fuzz({ attacks, seed: 20_260_101 });
  t.strictSame(report.faults, [], report.text);
  t.ok(report.attacks >= attacks, `${report.attacks} attacks`);
  const codes = [...report.endings.keys()];
  for (const code of ["3501", "3506"]) t.ok(codes.some((one) => one.startsWith(code)), `some ended ${code}`);
});
