/**
 * The page and the network of the client's device, as far as the platform reports them. A page hides when it is
 * reloaded, and the browser's cache may show it again.
 */

export type PageOwner = {
  /** The page is hidden or unloaded. There is no time to wait. */
  onHide(): void;
  /** The browser shows the page again, in its old state. */
  onShow(): void;
};

/** Whether the device has no network. Then other clients still have their sockets. */
export function isOffline(): boolean {
  return typeof navigator !== "undefined" && navigator.onLine === false;
}

/**
 * `onBack`: there is a network again, or another one. `onVisible`: the page is looked at again. A phone may have slept
 * meanwhile, and lost the socket without a close.
 * @returns a function that stops listening
 */
export function listenToNetwork(onBack: () => void, onVisible: () => void): () => void {
  if (typeof addEventListener !== "function") return () => {};
  const back = () => onBack();
  const change = () => document.visibilityState === "visible" && onVisible();
  const page = typeof document === "undefined" ? null : document;
  addEventListener("online", back);
  page?.addEventListener("visibilitychange", change);
  return () => {
    removeEventListener("online", back);
    page?.removeEventListener("visibilitychange", change);
  };
}

/** @returns a function that stops listening */
export function listenToPage({ onHide, onShow }: PageOwner): () => void {
  if (typeof document === "undefined") return () => {};
  const hide = () => onHide();
  const show = (event: PageTransitionEvent) => event.persisted && onShow();
  addEventListener("pagehide", hide);
  addEventListener("pageshow", show);
  return () => {
    removeEventListener("pagehide", hide);
    removeEventListener("pageshow", show);
  };
}
