/** The pieces that all views are made of. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

export type Tone = "good" | "warn" | "bad" | "plain";

export function Card({ title, note, action, children, id }: { title?: string; note?: ComponentChildren; action?: ComponentChildren; children: ComponentChildren; id?: string }) {
  return (
    <section class="card" {...(id !== undefined && { id })}>
      {title !== undefined && (
        <header class="card-head">
          <h2>{title}</h2>
          {note !== undefined && <p class="note">{note}</p>}
          {action !== undefined && <div class="actions">{action}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

export function Tile({ label, value, detail, tone = "plain" }: { label: string; value: ComponentChildren; detail?: ComponentChildren; tone?: Tone }) {
  return (
    <div class={`tile ${tone}`}>
      <dt>{label}</dt>
      <dd>
        <span class="value">{value}</span>
        {detail !== undefined && <span class="detail">{detail}</span>}
      </dd>
    </div>
  );
}

export function Tiles({ children }: { children: ComponentChildren }) {
  return <dl class="tiles">{children}</dl>;
}

export function Badge({ tone = "plain", children }: { tone?: Tone; children: ComponentChildren }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function Notice({ tone = "plain", children }: { tone?: Tone; children: ComponentChildren }) {
  return <div class={`notice ${tone}`} role={tone === "bad" ? "alert" : "status"}>{children}</div>;
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

/** A button that waits for what it does, and shows why it failed. */
export function Action({ label, act, danger = false, disabled = false }: { label: string; act: () => Promise<unknown>; danger?: boolean; disabled?: boolean }) {
  const [state, setState] = useState<"idle" | "busy" | { failed: string }>("idle");
  const run = async () => {
    setState("busy");
    try {
      await act();
      setState("idle");
    } catch (error) {
      setState({ failed: messageOf(error) });
    }
  };
  return (
    <>
      <button type="button" class={danger ? "danger" : ""} disabled={disabled || state === "busy"} onClick={() => void run()}>{label}</button>
      {typeof state === "object" && <Notice tone="bad">{state.failed}</Notice>}
    </>
  );
}

export interface Column<T> {
  readonly head: string;
  readonly cell: (row: T) => ComponentChildren;
  readonly isNumber?: boolean;
  readonly isLong?: boolean;
}

const pageRows = 25;

/** Long lists come in pages: a page of rows is what people read. */
export function Table<T>({ columns, rows, keyOf, label, empty = "Nothing to show." }: { columns: readonly Column<T>[]; rows: readonly T[]; keyOf: (row: T) => string; label: string; empty?: ComponentChildren }) {
  const [page, setPage] = useState(0);
  const pages = Math.max(1, Math.ceil(rows.length / pageRows));
  const shown = Math.min(page, pages - 1);
  if (rows.length === 0) return <Empty>{empty}</Empty>;
  const classOf = ({ isNumber, isLong }: Column<T>) => (isNumber === true ? "num" : isLong === true ? "long" : "");
  return (
    <>
      <div class="scroll" tabIndex={0} role="region" aria-label={label}>
        <table>
          <thead><tr>{columns.map((column) => <th key={column.head} scope="col" class={classOf(column)}>{column.head}</th>)}</tr></thead>
          <tbody>
            {rows.slice(shown * pageRows, (shown + 1) * pageRows).map((row) => (
              <tr key={keyOf(row)}>{columns.map((column) => <td key={column.head} class={classOf(column)}>{column.cell(row)}</td>)}</tr>
            ))}
          </tbody>
        </table>
      </div>
      {pages > 1 && (
        <nav class="pager" aria-label={`Pages of ${label}`}>
          <button type="button" disabled={shown === 0} onClick={() => setPage(shown - 1)}>Previous</button>
          <span>{shown + 1} of {pages}</span>
          <button type="button" disabled={shown === pages - 1} onClick={() => setPage(shown + 1)}>Next</button>
        </nav>
      )}
    </>
  );
}

export function Field({ label, hint, ...input }: { label: string; hint?: string } & JSX.IntrinsicElements["input"]) {
  return (
    <label class="field">
      <span>{label}</span>
      <input autocomplete="off" spellcheck={false} {...input} />
      {hint !== undefined && <small>{hint}</small>}
    </label>
  );
}

/** A form with the values of its fields by name. */
export function Form({ onSend, children, label, inline = false }: { onSend: (values: Record<string, string>) => Promise<unknown> | void; children: ComponentChildren; label: string; inline?: boolean }) {
  const [failed, setFailed] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    const values = Object.fromEntries([...new FormData(event.currentTarget as HTMLFormElement)].map(([name, value]) => [name, String(value)]));
    setBusy(true);
    setFailed("");
    try {
      await onSend(values);
    } catch (error) {
      setFailed(messageOf(error));
    }
    setBusy(false);
  };
  return (
    <form class={inline ? "inline" : ""} onSubmit={(event) => void send(event as unknown as SubmitEvent)}>
      {children}
      <button type="submit" class="primary" disabled={busy}>{label}</button>
      {failed !== "" && <Notice tone="bad">{failed}</Notice>}
    </form>
  );
}

/** Asks before it does what cannot be undone. With `word`, that has to be typed. */
export function Confirm({ open, title, children, word, label, onYes, onClose }: { open: boolean; title: string; children: ComponentChildren; word?: string; label: string; onYes: () => Promise<unknown>; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = useState("");
  useEffect(() => {
    if (open) {
      setTyped("");
      dialog.current?.showModal();
    } else {
      dialog.current?.close();
    }
  }, [open]);
  return (
    <dialog ref={dialog} onClose={onClose} aria-label={title}>
      <h2>{title}</h2>
      {children}
      {word !== undefined && <Field label={`Type ${word} to confirm`} value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />}
      <div class="actions">
        <button type="button" onClick={onClose}>Cancel</button>
        <Action label={label} danger disabled={word !== undefined && typed !== word} act={async () => { await onYes(); onClose(); }} />
      </div>
    </dialog>
  );
}

/** What `load` gives, again and again while the view is shown; with 0, once. Changed `keys` load it anew. */
export function usePolled<T>(load: () => Promise<T>, everyMs: number, keys: readonly unknown[]): { readonly value: T | null; readonly failed: string; again: () => void } {
  const [state, setState] = useState<{ value: T | null; failed: string }>({ value: null, failed: "" });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      if (document.visibilityState === "visible") {
        try {
          const value = await load();
          if (!isOver) setState({ value, failed: "" });
        } catch (error) {
          if (!isOver) setState((before) => ({ ...before, failed: messageOf(error) }));
        }
      }
      if (!isOver && everyMs > 0) timer = setTimeout(() => void look(), everyMs);
    };
    setState({ value: null, failed: "" });
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [...keys, turn]);
  return { ...state, again: () => setTurn(turn + 1) };
}

/** Nodes that said nothing: what is shown is not all. */
export function Unanswered({ nodes }: { nodes: readonly string[] }) {
  return nodes.length === 0 ? null : <Notice tone="warn">Not complete. No answer from {nodes.join(", ")}.</Notice>;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
