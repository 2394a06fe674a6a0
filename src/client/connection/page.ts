/**
 * The page a client lives in, where there is one: it goes when it is reloaded, and may come back from the browser's cache.
 * And the network of its device, as far as a browser tells.
 */

export type PageOwner = {
  /** The page goes. There is no time to wait for anything. */
  onHide(): void;
  /** The page is shown again, as it was. */
  onShow(): void;
};

/** It is the device that has no network: other clients still have their sockets. */
export function isOffline(): boolean {
  return typeof navigator !== "undefined" && navigator.onLine === false;
}

/** @returns how to stop listening */
export function listenToNetwork(onBack: () => void): () => void {
  if (typeof addEventListener !== "function") return () => {};
  const back = () => onBack();
  addEventListener("online", back);
  return () => removeEventListener("online", back);
}

/** @returns how to stop listening */
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
