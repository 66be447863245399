// The runtime without the page: what a worker runs, and tests import.

export * from "./card";
export * from "./goingOn";
export * from "./graphs";
export * from "./model";
export * from "./network";
export * from "./noise";
export * from "./pictures";
export * from "./pipeline";
export * from "./resample";
export * from "./solver";
export * from "./store";
export * from "./tokenizer";
export * from "./unpack";
export * from "./wav";
export * from "./words";
