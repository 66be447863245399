/** The page: an empty place to drop a video, or player and inspector above the time axis. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import * as jobs from "../jobs";
import { dialog, redoWithNote, undoWithNote } from "../keys";
import { dismiss, fail, messages } from "../messages";
import { begun, canRedo, canUndo, doc, startOver } from "../session";
import { dark, theme } from "../view";
import { Export, Help } from "./dialogs";
import { Inspector } from "./Inspector";
import { Screen } from "./Screen";
import { Timeline } from "./Timeline";

const ACCEPTED = "video/*,audio/*,image/*,.mkv,.mov,.mxf,.avi,.webm";

function OpenButton(props: { text: string; primary?: boolean }): JSX.Element {
  return (
    <label class={`button ${props.primary ? "primary large" : ""}`}>
      {props.text}
      <input
        type="file"
        class="visually-hidden"
        accept={ACCEPTED}
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          event.currentTarget.value = "";
          if (file) void jobs.open(file);
        }}
      />
    </label>
  );
}

function TopBar(): JSX.Element {
  const { media, takes } = doc.value;
  return (
    <header class="topbar">
      <h1>
        omni2sound <span>studio</span>
      </h1>
      {begun.value && <span class="file-name" title={media?.name}>{media?.name ?? "words alone"}</span>}
      <span class="spacer" />
      {begun.value && (
        <>
          <div class="button-group" role="group" aria-label="History">
            <button class="icon" disabled={!canUndo.value} aria-label={`Undo${canUndo.value ? `: ${canUndo.value}` : ""}`} title={`Undo${canUndo.value ? `: ${canUndo.value}` : ""} (Ctrl Z)`} onClick={undoWithNote}>
              <svg viewBox="0 0 16 16" aria-hidden="true" class="stroked"><path d="M6 3L3 6l3 3M3 6h6a4 4 0 0 1 0 8H7" /></svg>
            </button>
            <button class="icon" disabled={!canRedo.value} aria-label={`Redo${canRedo.value ? `: ${canRedo.value}` : ""}`} title={`Redo${canRedo.value ? `: ${canRedo.value}` : ""} (Ctrl Shift Z)`} onClick={redoWithNote}>
              <svg viewBox="0 0 16 16" aria-hidden="true" class="stroked"><path d="M10 3l3 3-3 3M13 6H7a4 4 0 0 0 0 8h2" /></svg>
            </button>
          </div>
          <OpenButton text="Open" />
          <button class="wide-only" onClick={() => startOver({})} title="An empty page; takes stay on the server for a while">
            New
          </button>
          <button disabled={!takes.length} onClick={() => (dialog.value = "export")} title="Export the chosen take (E)">
            Export
          </button>
        </>
      )}
      <button class="icon" aria-label={dark.value ? "Light colours" : "Dark colours"} title="Dark or light (D)" onClick={() => (theme.value = dark.value ? "light" : "dark")}>
        <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 2v10A5 5 0 0 1 8 3z" /></svg>
      </button>
      <button class="icon" aria-label="Keys and help" title="Keys (?)" onClick={() => (dialog.value = "help")}>
        ?
      </button>
    </header>
  );
}

function Welcome(): JSX.Element {
  return (
    <main class="welcome">
      <div class="drop">
        <h2>Drop a video here</h2>
        <p>It gets the sound of what is seen in it, of your words, or of both. It stays on this server.</p>
        <div class="welcome-buttons">
          <OpenButton text="Choose a file" primary />
          <button class="large" onClick={() => startOver({ duration_s: 8 })}>
            Begin with words alone
          </button>
        </div>
      </div>
      {jobs.model.value && (
        <p class="muted">
          The model knows {jobs.model.value.kinds.length} kinds of sound: {jobs.model.value.kinds.slice(0, 12).map((kind) => kind.name).join(", ")}
          {jobs.model.value.kinds.length > 12 && " …"}
        </p>
      )}
    </main>
  );
}

function Uploading(): JSX.Element | null {
  const upload = jobs.uploading.value;
  if (!upload) return null;
  const percent = Math.round(upload.fraction * 100);
  return (
    <div class="uploading" role="status">
      <span>{percent < 100 ? `Sending ${upload.name}: ${percent} %` : `Reading ${upload.name} …`}</span>
      <progress max={100} {...(percent < 100 ? { value: percent } : {})} aria-label={`Sending ${upload.name}`} />
      <button class="quiet" onClick={upload.cancel}>
        Cancel
      </button>
    </div>
  );
}

function Messages(): JSX.Element {
  return (
    <div class="messages">
      {(["error", "note"] as const).map((kind) => (
        <div key={kind} role={kind === "error" ? "alert" : "status"}>
          {messages.value
            .filter((message) => message.kind === kind)
            .map((message) => (
              <div key={message.id} class={`message ${kind}`}>
                <span>{message.text}</span>
                <button class="icon quiet" aria-label="Dismiss" onClick={() => dismiss(message.id)}>
                  ×
                </button>
              </div>
            ))}
        </div>
      ))}
    </div>
  );
}

/** True while a file is dragged over the window. */
function useDrop(): boolean {
  const over = useSignal(false);
  useEffect(() => {
    let depth = 0;
    const hasFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
    const listeners: [string, (event: DragEvent) => void][] = [
      ["dragenter", () => (over.value = ++depth > 0)],
      ["dragleave", () => (over.value = --depth > 0)],
      ["dragover", () => {}],
      [
        "drop",
        (event) => {
          depth = 0;
          over.value = false;
          const files = [...(event.dataTransfer?.files ?? [])];
          if (files.length > 1) fail(new Error(`${files.length} files were dropped; this page works on one: ${files[0]!.name} is taken.`));
          if (files[0]) void jobs.open(files[0]);
        },
      ],
    ];
    const wrapped = listeners.map(([name, run]) => {
      const listener = (event: Event): void => {
        if (!hasFiles(event as DragEvent)) return;
        event.preventDefault();
        run(event as DragEvent);
      };
      addEventListener(name, listener);
      return [name, listener] as const;
    });
    return () => wrapped.forEach(([name, listener]) => removeEventListener(name, listener));
  }, []);
  return over.value;
}

export function App(): JSX.Element {
  const over = useDrop();
  useEffect(() => {
    const name = doc.value.media?.name;
    document.title = name ? `${name} – omni2sound studio` : "omni2sound studio";
  }, [doc.value.media?.name]);
  return (
    <>
      <TopBar />
      {jobs.away.value && (
        <p class="away" role="status">
          The server does not answer. What you did is kept; this page goes on by itself when the server is back.
        </p>
      )}
      {begun.value ? (
        <main class="studio">
          <Screen />
          <Inspector />
          <Timeline />
        </main>
      ) : (
        <Welcome />
      )}
      <Uploading />
      <Messages />
      {over && <div class="drop-over">Let go to open it here</div>}
      {dialog.value === "help" && <Help />}
      {dialog.value === "export" && <Export />}
    </>
  );
}
