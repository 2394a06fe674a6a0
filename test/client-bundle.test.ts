/** What a page loads. */
import { gzipSync } from "node:zlib";
import t from "tap";
import { bundleClient } from "../bundle.mjs";
import { root } from "./support/root.ts";

/** Bytes of a bundle, gzipped, and the files in it. */
async function bundle(contents: string): Promise<{ bytes: number; files: string[] }> {
  const { outputFiles, metafile } = await bundleClient({ entryPoints: [], stdin: { contents, resolveDir: root }, absWorkingDir: root, outdir: "unwritten", write: false, metafile: true });
  const [output] = Object.values(metafile?.outputs ?? {});
  t.same(output?.imports, [], "it needs nothing else");
  return { bytes: gzipSync(outputFiles?.[0]?.contents ?? "").length, files: Object.keys(output?.inputs ?? {}) };
}

t.test("everything in the SDK is under 28 kB gzipped, and the protobuf library is not in it", async (t) => {
  const { bytes, files } = await bundle('export * from "./src/client/index.ts";');
  t.ok(bytes > 5000 && bytes < 28_000, `${bytes} bytes`);
  t.same(files.filter((file) => /node_modules|generated/.test(file)), []);
});

// The target was 18 kB. Bundlers keep all methods of a class (docs/decisions/122-each-join-is-a-room.md).
t.test("an application that connects, joins and publishes has under 23 kB of it", async (t) => {
  const { bytes } = await bundle(`
    import { connect } from "./src/client/index.ts";
    const room = connect("ws://127.0.0.1:8080/ws").join("chat:general");
    room.on("publication", console.log);
    await room.publish("hi");
  `);
  t.ok(bytes > 5000 && bytes < 23_000, `${bytes} bytes`);
});
