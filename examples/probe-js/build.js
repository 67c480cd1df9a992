// Builds dist/probe-js.wasm from probe.js: the JavaScript engine and the program in one component.

import { mkdir, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({ sourcePath: "probe.js", witPath: "wit" });
await mkdir("dist", { recursive: true });
await writeFile("dist/probe-js.wasm", component);
console.log(`dist/probe-js.wasm: ${component.length} bytes`);
