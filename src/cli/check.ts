/** Checks the files and folders that a configuration names, as start would: keys, certificates, the data directory. */
import { X509Certificate } from "node:crypto";
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { readKeys } from "../auth/files.ts";
import { readCertificate } from "../config/certificate.ts";
import { ConfigError, type Config } from "../config/config.ts";

/** Every problem, with the flag of its option. */
export function problemsHere(config: Config): string[] {
  const { natsTlsCa, natsTlsCert, natsTlsKey, natsCreds, redisTlsCa, dataDir } = config;
  return [
    ...problemsOf(() => readKeys(config)),
    ...problemsOf(() => readCertificate(config)),
    ...fileProblems("--nats-tls-ca", natsTlsCa, "certificate"),
    ...fileProblems("--nats-tls-cert", natsTlsCert, "certificate"),
    ...fileProblems("--nats-tls-key", natsTlsKey, "private key"),
    ...fileProblems("--nats-creds", natsCreds, "credentials"),
    ...fileProblems("--redis-tls-ca", redisTlsCa, "certificate"),
    ...(dataDir === "" ? [] : dataDirProblems(dataDir)),
  ];
}

function problemsOf(read: () => unknown): readonly string[] {
  try {
    read();
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

const begins = { certificate: /-----BEGIN CERTIFICATE-----/, "private key": /-----BEGIN [A-Z ]*PRIVATE KEY-----/, credentials: /-----BEGIN NATS USER JWT-----/ };

function fileProblems(flag: string, path: string, kind: keyof typeof begins): string[] {
  if (path === "") return [];
  try {
    const text = readFileSync(path, "utf8");
    if (!begins[kind].test(text)) return [`${flag}: ${path} contains no ${kind}`];
    if (kind === "certificate") new X509Certificate(text);
    return [];
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return [/^E[A-Z]+$/.test(code ?? "") ? `${flag}: ${path} cannot be read; check the path and the file's permissions (${code})` : `${flag}: ${path} contains no ${kind}`];
  }
}

/** Whether this user can create files in the data directory, or the directory itself. Leaves nothing behind. */
function dataDirProblems(name: string): string[] {
  let folder = resolve(name);
  while (!existsSync(folder)) folder = dirname(folder);
  try {
    if (!statSync(folder).isDirectory()) return [`--data-dir ${name}: ${folder} is a file; choose a directory or an unused path`];
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    rmdirSync(mkdtempSync(join(folder, ".flux-check-")));
    return [];
  } catch (error) {
    return [`--data-dir ${name}: this user cannot create files in ${folder} (${(error as NodeJS.ErrnoException).code}); change its owner, or choose another directory`];
  }
}
