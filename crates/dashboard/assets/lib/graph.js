// The graph of an app's plan: its nodes and edges, and their layout.

import { Graph, layout as place } from "../vendor/dagre.js";

/** The height of a node. */
const NODE_HEIGHT = 46;

/** The minimum width of a node. The calls per second and the p99 fit into it. */
const NODE_WIDTH_MIN = 124;

/** The size of the label of an edge, for which the layout keeps space. */
const LABEL = { width: 52, height: 30, labelpos: "c" };

/**
 * @typedef {{id: string, kind: "client" | "component" | "store", name: string, note: string, system?: string, x: number, y: number, width: number, height: number}} Node
 * @typedef {{from: string, to: string, mode: string, seams: any[], x: number, y: number, points: {x: number, y: number}[]}} Edge
 * @typedef {{name: string, x: number, y: number, width: number, height: number}} Box
 * @typedef {{nodes: Node[], edges: Edge[], boxes: Box[], width: number, height: number}} Layout
 */

/** The grants that name a store. */
const STORE = /^(kv|sql) (.+)$/;

/** Returns the nodes and edges of a plan. @param {any} plan */
export function graphOf(plan) {
  const handlers = plan.groups.flatMap((group) => group.handlers);
  const routes = new Map(handlers.map((handler) => [handler.component, handler.routes]));
  const components = plan.groups.flatMap((group) =>
    group.components.map((name) => ({
      id: `component ${name}`,
      kind: "component",
      name,
      note: routes.has(name) ? routes.get(name).join(" ") : "",
      group: group.set_apart_from ?? group.name,
    })),
  );
  const stores = plan.access.flatMap(({ component, granted }) =>
    granted
      .map((grant) => STORE.exec(grant))
      .filter(Boolean)
      .map(([, kind, name]) => ({ component, kind, name, id: `store ${kind} ${name}` })),
  );
  const storeNodes = [...new Map(stores.map((store) => [store.id, store])).values()].map(({ id, kind, name }) => ({
    id,
    kind: "store",
    name,
    note: kind === "kv" ? "key-value" : "SQL",
    system: kind === "kv" ? "redb" : "sqlite",
  }));
  const client = handlers.length > 0 ? [{ id: "client", kind: "client", name: "Front door", note: "HTTP" }] : [];
  const edges = new Map();
  for (const seam of plan.seams) {
    const id = `${seam.importer}\n${seam.exporter}`;
    const edge = edges.get(id) ?? { from: `component ${seam.importer}`, to: `component ${seam.exporter}`, mode: seam.mode, seams: [] };
    edge.seams.push(seam);
    edges.set(id, edge);
  }
  const others = [
    ...handlers.map((handler) => ({ from: "client", to: `component ${handler.component}`, mode: "client", seams: [] })),
    ...stores.map((store) => ({ from: `component ${store.component}`, to: store.id, mode: "store", seams: [] })),
  ];
  return { nodes: [...client, ...components, ...storeNodes], edges: [...edges.values(), ...others] };
}

/**
 * Places the nodes of a plan from left to right; closer to each other on narrow screens.
 * @param {any} plan
 * @param {boolean} isNarrow
 * @returns {Layout}
 */
export function layoutOf(plan, isNarrow) {
  const { nodes, edges } = graphOf(plan);
  const graph = new Graph({ compound: true, multigraph: false });
  graph.setGraph({
    rankdir: "LR",
    nodesep: isNarrow ? 14 : 22,
    ranksep: isNarrow ? 28 : 44,
    edgesep: isNarrow ? 6 : 12,
    marginx: isNarrow ? 6 : 20,
    marginy: 28,
  });
  graph.setDefaultEdgeLabel(() => ({}));
  const groups = [...new Set(nodes.map((node) => node.group).filter(Boolean))];
  const hasBoxes = groups.length > 1;
  for (const node of nodes) {
    const width = Math.min(
      210,
      Math.max(NODE_WIDTH_MIN, 34 + 7.2 * Math.max(node.name.length, Math.min(24, node.note.length))),
    );
    graph.setNode(node.id, { width, height: NODE_HEIGHT });
  }
  if (hasBoxes) {
    for (const group of groups) graph.setNode(`group ${group}`, {});
    for (const node of nodes) if (node.group) graph.setParent(node.id, `group ${node.group}`);
  }
  for (const edge of edges) graph.setEdge(edge.from, edge.to, edge.mode === "store" ? {} : { ...LABEL });
  place(graph);
  const { width, height } = graph.graph();
  return {
    nodes: nodes.map((node) => ({ ...node, ...graph.node(node.id) })),
    edges: edges.map((edge) => ({ ...edge, ...graph.edge(edge.from, edge.to) })),
    boxes: hasBoxes ? groups.map((name) => ({ name, ...graph.node(`group ${name}`) })) : [],
    width,
    height,
  };
}

/** Returns a smooth path through the points of an edge. @param {{x: number, y: number}[]} points */
export function curve(points) {
  const [first, ...rest] = points;
  if (rest.length < 2) return `M${first.x},${first.y}L${rest[0]?.x ?? first.x},${rest[0]?.y ?? first.y}`;
  let path = `M${first.x},${first.y}`;
  for (let index = 0; index < rest.length - 1; index++) {
    const [control, next] = [rest[index], rest[index + 1]];
    const isLast = index === rest.length - 2;
    const end = isLast ? next : { x: (control.x + next.x) / 2, y: (control.y + next.y) / 2 };
    path += `Q${control.x},${control.y} ${end.x},${end.y}`;
  }
  return path;
}
