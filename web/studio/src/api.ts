/** The server's interface: types of what it says, and one function for each thing it can be asked. */

import { keep, kept } from "./storage";

export interface Seen {
  name: string;
  /** What it is expected to sound like; null where it makes none. */
  sound: string | null;
  place: string | null;
  spans: [number, number][];
  sounding: boolean;
  why_silent: string | null;
}

export interface Media {
  id: string;
  name: string;
  kind: "video" | "picture" | "sound";
  duration_s: number | null;
  frames_per_second: number | null;
  width: number | null;
  height: number | null;
  has_sound: boolean;
  file: string;
  strip: string | null;
  peaks: string | null;
  /** A small copy of a film that browsers do not play. */
  proxy: string | null;
}

export interface Take {
  id: string;
  seed: number;
  duration_s: number;
  lufs: number | null;
  true_peak_db: number | null;
  sound: string;
  peaks: string;
  spectrogram: string;
  notes: string[];
  edited: string | null;
  stems: Stem[];
}

/** One sound of a take: a cue, a recognised thing, or the rest. */
export interface Stem {
  name: string;
  text: string | null;
  anew: boolean;
  sound: string;
  peaks: string;
}

export type JobKind = "generate" | "edit" | "see" | "stems" | "export";

export interface Job {
  id: string;
  kind: JobKind;
  state: "waiting" | "running" | "done" | "failed" | "cancelled";
  position: number | null;
  stage: string | null;
  fraction: number | null;
  seconds_left: number | null;
  request: Record<string, unknown>;
  notes: string[];
  error?: { message: string; field?: string | null } | null;
  takes?: Take[] | null;
  seen?: Seen[] | null;
  file?: { name: string; bytes: number; url: string } | null;
}

export interface Model {
  name: string;
  sample_rate_hz: number | null;
  /** Sampling steps where none are asked for; null while the model is loaded. */
  steps: number | null;
  kinds: { name: string; examples: string[] }[];
  max_duration_s: number;
  jobs: JobKind[];
  formats: string[];
  limits: { upload_bytes: number; duration_s: number; takes: number };
}

export interface StemMix {
  gain_db: number;
  pan: number;
  mute: boolean;
}

export type Peaks = [number, number][];

/** What the server, or the lack of one, answered: one sentence for the page to show. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** Who asks: the server is fair between pages, not between tabs of one. */
function clientName(): string {
  const known = kept("omni2sound.client");
  if (known) return known;
  const made = crypto.getRandomValues(new Uint32Array(3)).join("-");
  keep("omni2sound.client", made);
  return made;
}

const NO_ANSWER = "The server does not answer. Is “omni2sound serve” still running?";

/** "expected 1 to 8, got 9" of the field takes as "Takes: expected 1 to 8, got 9." */
export function sentence(message: string, field?: string | null): string {
  const text = field ? `${field.replaceAll("_", " ")}: ${message}` : message;
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** A note in the page's words: where the library names its fields, the page has a place for words. */
export const noted = (line: string): string =>
  sentence(line.replace(/(; |, or )say what [^;`]* with `[^;]*`$/, "$1say in words what should be heard"));

function failure(status: number, body: unknown): ApiError {
  const error = (body as { error?: { message?: string; field?: string | null } } | null)?.error;
  if (error?.message) return new ApiError(sentence(error.message, error.field), status);
  if (status === 413) return new ApiError("The file is larger than the server accepts.", status);
  if (status === 401 || status === 403)
    return new ApiError("The server asks for its token: open the address that it printed.", status);
  return new ApiError(`The server answered with an error (${status}).`, status);
}

async function asked<T>(path: string, init?: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new ApiError(NO_ANSWER, 0);
  }
  const body: unknown = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw failure(response.status, body);
  return body as T;
}

export const model = (): Promise<Model> => asked("/v1/model");

export const media = (id: string): Promise<Media> => asked(`/v1/media/${id}`);

export const job = (id: string): Promise<Job> => asked(`/v1/jobs/${id}`);

export const startJob = (request: { kind: JobKind } & Record<string, unknown>): Promise<Job> =>
  asked("/v1/jobs", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Client": clientName() },
    body: JSON.stringify(request),
  });

export const cancelJob = (id: string): Promise<unknown> =>
  asked(`/v1/jobs/${id}`, { method: "DELETE" });

export const peaks = async (url: string): Promise<Peaks> =>
  (await asked<{ peaks: Peaks }>(url)).peaks;

/** Those of the jobs that the server still knows. */
export const jobs = (ids: string[]): Promise<Job[]> =>
  asked(`/v1/jobs?ids=${ids.join(",")}`);

/** Trades the token in the address (#token=...) for a cookie and takes it out of the address. */
export async function logIn(): Promise<void> {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await asked("/v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
}

/** Sends a file and says how much of it has gone; aborting `signal` ends it. */
export function upload(
  file: File,
  progress: (fraction: number) => void,
  signal: AbortSignal,
): Promise<Media> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/media");
    request.responseType = "json";
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    };
    request.onload = () =>
      request.status < 300
        ? resolve(request.response as Media)
        : reject(failure(request.status, request.response));
    request.onerror = () => reject(new ApiError(NO_ANSWER, 0));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}
