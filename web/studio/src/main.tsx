/** Starts the page: what was worked on comes back, then the server is asked what it can do. */
import { render } from "preact";
import { logIn } from "./api";
import { followJobs, learnModel } from "./jobs";
import { onKey } from "./keys";
import { fail } from "./messages";
import { App } from "./parts/App";
import { restore } from "./session";

await logIn().catch(fail);
await restore();
render(<App />, document.getElementById("app")!);
addEventListener("keydown", onKey);
performance.mark("interactive"); // read by benchmarks/speed/page.py
followJobs();
void learnModel();
