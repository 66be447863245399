/** Sentences for the user: what went wrong, what was done. Also read aloud by screen readers. */
import { signal } from "@preact/signals";

export interface Message {
  id: number;
  kind: "error" | "note";
  text: string;
  slot: string;
}

export const messages = signal<Message[]>([]);
let next = 1;

export function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
}

function show(kind: Message["kind"], text: string, slot: string): number {
  const id = next++;
  const others = messages.value.filter((message) => message.slot !== slot);
  messages.value = [...others, { id, kind, text, slot }].slice(-4);
  return id;
}

/** Shows an error until it is dismissed. */
export function fail(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const text = error instanceof Error ? error.message : String(error);
  show("error", text, text);
}

/** Shows a note for a few seconds, in place of the one before it in the same slot. */
export function note(text: string, seconds = 4, slot = text): void {
  const id = show("note", text, slot);
  setTimeout(() => dismiss(id), seconds * 1000);
}
