// Reads a JSON list of diagrams from standard input and writes what Mermaid makes of each: its parts, or its error.
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const page = new JSDOM("<!doctype html><body></body>", { pretendToBeVisual: true });
globalThis.window = page.window;
globalThis.document = page.window.document;
const mermaid = (await import("mermaid")).default;
mermaid.initialize({ startOnLoad: false });

const parsed = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    const diagram = await mermaid.mermaidAPI.getDiagramFromText(text);
    const found = diagram.db;
    parsed.push({
      type: diagram.type,
      boxes: [...found.getVertices().values()].map((box) => ({ id: box.id, text: box.text, classes: box.classes })),
      arrows: found.getEdges().map((arrow) => ({ from: arrow.start, to: arrow.end, text: arrow.text })),
      frames: found.getSubGraphs().map((frame) => ({ id: frame.id, text: frame.title, inside: frame.nodes })),
    });
  } catch (error) {
    parsed.push({ error: String(error.message ?? error) });
  }
}
process.stdout.write(JSON.stringify(parsed));
