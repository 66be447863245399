/// <reference types="vite/client" />
/** Name of the runtime's files without their endings. */
declare const __ORT__: string;
/** Bytes of the runtime as it is loaded. */
declare const __ORT_BYTES__: number;
