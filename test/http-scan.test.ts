/** Where `data` stands in a body: its bytes are what JSON.parse makes the same value of. */
import fc from "fast-check";
import t from "tap";
import { shownText } from "../src/http/payload.ts";
import { scan } from "../src/http/scan.ts";

function found(text: string): (string | null)[] {
  const bytes = Buffer.from(text);
  const { spans } = scan(bytes);
  return Array.from({ length: spans.length / 2 }, (_, i) => (spans[2 * i]! < 0 ? null : bytes.toString("utf8", spans[2 * i], spans[2 * i + 1])));
}

t.test("the bytes of data are found, and nothing that only looks like it", async (t) => {
  for (const [text, expected] of [
    ['{"data":1}', ["1"]],
    ['{ "key" : "data" ,\n "data" : [1, {"data": 2}] }', ['[1, {"data": 2}]']],
    ['{"data":"a\\"b,}","b64":"data"}', ['"a\\"b,}"']],
    ['{"data":12345678901234567890.10}', ["12345678901234567890.10"]],
    ['{"rooms":["data","x"],"data":null}', ["null"]],
    ['{"data":1,"data":2}', ["2"]],
    ['{"b64":"AA=="}', [null]],
    ['{"d\\u0061ta":2}', [null]],
    ['{"data":1,"d\\u0061ta":2}', [null]],
    ['{"d\\u0061ta":2,"data":1}', [null]],
    ['[{"room":"a","data":{}},{"room":"b"},{"data":[]}]', ["{}", null, "[]"]],
    ["[]", []], ["7", []], ['"data"', []], ["[[1],[2]]", []], ["", []],
  ] as const) t.strictSame(found(text), expected, text);
  t.equal(scan(Buffer.from('{"a":[[{"b":[]}]],"c":"[[[[[["}')).depth, 5);
});

t.test("whatever the body is, the bytes give the value that JSON.parse gives", async (t) => {
  const item = fc.record({ room: fc.string(), data: fc.jsonValue(), key: fc.string(), extra: fc.jsonValue() }, { requiredKeys: [] });
  const written = (value: unknown, spaces: number) => JSON.stringify(value, null, spaces);
  fc.assert(fc.property(fc.oneof(item, fc.array(item)), fc.integer({ min: 0, max: 3 }), (body, spaces) => {
    const items = Array.isArray(body) ? body : [body];
    const parsed = (JSON.parse(written(items, 0)) as { data?: unknown }[]).map((one) => ("data" in one ? JSON.stringify(one.data) : null));
    const bytes = found(written(body, spaces)).map((text) => (text === null ? null : JSON.stringify(JSON.parse(text))));
    return JSON.stringify(parsed) === JSON.stringify(bytes);
  }));
  t.doesNotThrow(() => fc.assert(fc.property(fc.string({ unit: fc.constantFrom(..."{}[]\",:\\da1 ") }), (text) => void scan(Buffer.from(text)))));
});

t.test("what another program wrote into NATS is shown, and breaks no answer", async (t) => {
  const one = { epoch: "e", seq: 1, sender: 'a"b', time: 8.64e15 + 1, payload: Buffer.from("{"), format: 1 };
  t.strictSame(JSON.parse(shownText(one)), { position: "e:1", sender: 'a"b', time: "1970-01-01T00:00:00.000Z", b64: "ew==" });
  t.match(JSON.parse(shownText({ ...one, time: Number.NaN, payload: Buffer.from([0xff]), format: 0 })), { b64: "/w==" });
  t.match(JSON.parse(shownText({ ...one, payload: Buffer.from('{"a":1}') })), { data: { a: 1 } });
});
