// Builds dist/hello-js.wasm from hello.js: the JavaScript engine and the program in one component.

import { mkdir, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({ sourcePath: "hello.js", witPath: "wit" });
await mkdir("dist", { recursive: true });
await writeFile("dist/hello-js.wasm", component);
console.log(`dist/hello-js.wasm: ${component.length} bytes`);
