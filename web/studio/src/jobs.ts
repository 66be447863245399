/** Work of the server for this tab: started, followed while it runs, applied once when it is done. */
import { computed, effect, signal } from "@preact/signals";
import * as api from "./api";
import type { Job, JobKind, Media } from "./api";
import { fail, note } from "./messages";
import { amend, begun, change, currentTake, doc, letter, pending, startOver } from "./session";

export const jobs = signal<ReadonlyMap<string, Job>>(new Map());
export const model = signal<api.Model | null>(null);
/** True while the server does not answer; the page goes on trying. */
export const away = signal(false);
/** Whether the server still loads the model. */
export const loading = computed(() => model.value !== null && model.value.sample_rate_hz === null);

export const running = computed(() =>
  pending.value.map(({ id }) => jobs.value.get(id)).filter((job) => job !== undefined),
);

export const busyWith = (kind: JobKind): boolean => running.value.some((job) => job.kind === kind);

const ended = (job: Job): boolean => job.state !== "waiting" && job.state !== "running";

function store(job: Job): void {
  jobs.value = new Map(jobs.value).set(job.id, job);
}

function forget(id: string): void {
  pending.value = pending.value.filter((entry) => entry.id !== id);
}

const MADE: Record<JobKind, string> = {
  generate: "takes made",
  edit: "a part made new",
  stems: "a take made of stems",
  see: "",
  export: "",
};

/** Puts the result of a finished job into the document. */
function apply(job: Job, take: string | undefined): void {
  const d = doc.peek();
  if (job.state === "failed") {
    const { message, field } = job.error ?? { message: "the server could not do this" };
    fail(new Error(api.sentence(message, field)));
  } else if (job.state === "cancelled") {
    note("Stopped.");
  } else if (job.kind === "see") {
    if (job.request["media"] === d.media?.id) amend({ seen: job.seen ?? [] });
  } else if (job.kind === "export" && job.file) {
    download(job.file);
  } else {
    const takes = job.takes ?? [];
    const first = takes[0];
    if (!first) return;
    const mix = take && d.mixes[take];
    change(MADE[job.kind], {
      takes: [...d.takes, ...takes],
      current: first.id,
      ...(mix && { mixes: { ...d.mixes, [first.id]: mix } }),
    });
    const names = takes.map((_, index) => letter(d.takes.length + index)).join(", ");
    note(takes.length > 1 ? `Takes ${names} are ready.` : `Take ${names} is ready.`);
  }
  if (!job.takes?.length) for (const line of job.notes) note(api.noted(line), 8);
}

function download(file: { url: string; name: string }): void {
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.name;
  link.click();
  note(`${file.name} is in your downloads.`);
}

function update(job: Job): void {
  const entry = pending.peek().find(({ id }) => id === job.id);
  if (!entry) return;
  store(job);
  if (loading.peek() && job.state !== "waiting") void learnModel();
  if (!ended(job)) return;
  forget(job.id);
  apply(job, entry.take);
}

/** Asks for the state of all that is pending: after a reload, or when the server is back. */
async function catchUp(): Promise<void> {
  const ids = pending.peek().map(({ id }) => id);
  if (!ids.length) return;
  const known = await api.jobs(ids);
  for (const job of known) update(job);
  const found = new Set(known.map(({ id }) => id));
  for (const id of ids.filter((id) => !found.has(id))) {
    forget(id);
    fail(new Error("The server no longer knows a job that this page had started: start it again."));
  }
}

const RETRY_MS = 1500;

/** Follows the server's events while anything is pending, for as long as that takes. */
export function followJobs(): void {
  let events: EventSource | null = null;
  let timer = 0;

  const close = (): void => {
    events?.close();
    events = null;
    clearTimeout(timer);
  };
  const retry = (): void => {
    close();
    timer = window.setTimeout(open, RETRY_MS);
  };
  const open = (): void => {
    close();
    events = new EventSource("/v1/events");
    events.addEventListener("job", (event) => update(JSON.parse(event.data) as Job));
    events.onopen = () => {
      away.value = false;
      void catchUp().catch(retry);
    };
    events.onerror = () => {
      away.value = true;
      retry();
    };
  };
  const following = computed(() => pending.value.length > 0);
  effect(() => (following.value ? open() : (close(), undefined)));
}

/** Asks what the server can do, until it answers. */
export async function learnModel(): Promise<void> {
  try {
    model.value = await api.model();
    away.value = false;
  } catch (error) {
    if (error instanceof api.ApiError && error.status === 401) {
      fail(error);
      return;
    }
    away.value = true;
    setTimeout(() => void learnModel(), RETRY_MS);
  }
}

async function start(request: { kind: JobKind } & Record<string, unknown>, take?: string): Promise<void> {
  try {
    const job = await api.startJob(request);
    store(job);
    pending.value = [...pending.value, { id: job.id, ...(take && { take }) }];
  } catch (error) {
    fail(error);
  }
}

export async function cancel(id: string): Promise<void> {
  try {
    const answer = (await api.cancelJob(id)) as Job | null;
    if (answer && ended(answer)) update(answer);
  } catch (error) {
    fail(error);
  }
}

const cuesSent = (): Record<string, unknown>[] =>
  doc
    .peek()
    .cues.filter((cue) => cue.prompt.trim())
    .map((cue) => ({
      from_s: cue.from_s,
      ...(cue.to_s !== null && { to_s: cue.to_s }),
      prompt: cue.prompt.trim(),
    }));

/** Starts what makes new takes for the whole document. */
export async function generate(): Promise<void> {
  const d = doc.peek();
  const cues = cuesSent();
  if (!d.media && !d.prompt.trim() && !cues.length) {
    fail(new Error("Write what is to be heard, place a cue, or drop a video."));
    return;
  }
  await start({
    kind: "generate",
    ...(d.media && { media: d.media.id }),
    ...(d.media?.kind !== "video" && { duration_s: d.duration_s }),
    prompt: d.prompt.trim(),
    ...(d.negative.trim() && { negative: d.negative.trim() }),
    ...(cues.length && { cues }),
    ...(d.media && { leave_out: d.seenOff }),
    ambience: d.ambience,
    ...(d.stems && { stems: true }),
    takes: d.numTakes,
    ...(d.seed !== null && { seed: d.seed }),
    ...(d.steps !== null && { steps: d.steps }),
  });
}

/** Makes the selected range of the chosen take new; the rest stays sample for sample. */
export async function editRange(): Promise<void> {
  const d = doc.peek();
  const take = currentTake.peek();
  const own = d.current === "original" ? d.media : null;
  if ((!take && !own) || !d.range) {
    fail(new Error("Choose a take and drag over the part of it that is to be new."));
    return;
  }
  const [from_s, to_s] = d.range;
  const cues = cuesSent().filter(
    (cue) => (cue["from_s"] as number) < to_s && ((cue["to_s"] ?? cue["from_s"]) as number) >= from_s,
  );
  await start(
    {
      kind: "edit",
      ...(take ? { take: take.id } : { media: own!.id }),
      ranges: [[from_s, to_s]],
      prompt: d.prompt.trim(),
      ...(cues.length && { cues }),
      look: d.media?.kind === "video",
      ...(d.seed !== null && { seed: d.seed }),
      ...(d.steps !== null && { steps: d.steps }),
    },
    take?.id,
  );
}

/** Makes a take again so that each of its sounds is a stem. */
export const makeStems = (take: string): Promise<void> => start({ kind: "stems", take }, take);

/** Makes one stem of a take new; the others stay as they are. */
export const remakeStem = (take: string, stem: string): Promise<void> =>
  start({ kind: "stems", take, anew: stem, seed: Math.floor(Math.random() * 2 ** 31) }, take);

export const exportTake = (take: string, options: Record<string, unknown>): Promise<void> =>
  start({ kind: "export", take, ...options });

export interface Upload {
  name: string;
  fraction: number;
  cancel: () => void;
}

export const uploading = signal<Upload | null>(null);

const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MB`;

/** Sends a video to the server and begins a session with it. */
export async function open(file: File): Promise<void> {
  const limit = model.peek()?.limits.upload_bytes;
  if (limit && file.size > limit) {
    fail(new Error(`${file.name} has ${megabytes(file.size)}; this server takes up to ${megabytes(limit)}.`));
    return;
  }
  if (file.size === 0) {
    fail(new Error(`${file.name} is empty.`));
    return;
  }
  uploading.peek()?.cancel();
  const abort = new AbortController();
  const state = { name: file.name, fraction: 0, cancel: () => abort.abort() };
  uploading.value = state;
  try {
    const media = await api.upload(
      file,
      (fraction) => (uploading.value = { ...state, fraction }),
      abort.signal,
    );
    begin(media);
  } catch (error) {
    fail(error);
  } finally {
    if (uploading.peek()?.cancel === state.cancel) uploading.value = null;
  }
}

function begin(media: Media): void {
  if (begun.peek() && doc.peek().takes.length)
    note("A new session has begun; takes of the last one stay on the server for a while.", 8);
  for (const { id } of pending.peek()) void api.cancelJob(id).catch(() => {});
  startOver({ media, current: media.has_sound ? "original" : null });
  if (media.kind !== "sound") void start({ kind: "see", media: media.id });
}
