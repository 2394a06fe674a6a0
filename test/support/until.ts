export { until } from "../../src/contracts/until.ts";
