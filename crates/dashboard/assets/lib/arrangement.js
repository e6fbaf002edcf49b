// An arrangement of components that a person edits: groups, and the components that are isolated.

/** @typedef {{name: string, compositions: string[][]}} Process */
/** @typedef {{groups: {name: string, members: string[]}[], isolated: string[]}} Arrangement */

/** The arrangement of a shape's groups. In each group, all components outside the largest composition are isolated, or all if none is fused. @param {Process[]} processes @returns {Arrangement} */
export function arrangementOf(processes) {
  const isolated = processes.flatMap(({ compositions }) => {
    const largest = compositions.reduce((best, each) => (each.length > best.length ? each : best), compositions[0] ?? []);
    const isNoneFused = compositions.length > 1 && largest.length === 1;
    return compositions.filter((each) => isNoneFused || each !== largest).flat();
  });
  return { groups: processes.map(({ name, compositions }) => ({ name, members: compositions.flat().sort() })), isolated: isolated.sort() };
}

/** Moves a component to the group with this index; an index after the last group creates a group. @param {Arrangement} arrangement @param {string} component @param {number} index @returns {Arrangement} */
export function moved({ groups, isolated }, component, index) {
  const name = freeName(groups, component);
  const all = index >= groups.length ? [...groups, { name, members: [] }] : groups;
  const target = all[index >= groups.length ? groups.length : index];
  const next = all.map((group) => {
    const members = group.members.filter((member) => member !== component);
    return { ...group, members: group === target ? [...members, component].sort() : members };
  });
  return { groups: next.filter((group) => group.members.length > 0), isolated };
}

/** Isolates a component, or fuses it with its group again. @param {Arrangement} arrangement @param {string} component @param {boolean} isIsolated @returns {Arrangement} */
export function isolatedAs({ groups, isolated }, component, isIsolated) {
  const others = isolated.filter((name) => name !== component);
  return { groups, isolated: isIsolated ? [...others, component].sort() : others };
}

/** The index of a component's group. @param {Arrangement} arrangement @param {string} component */
export const groupOf = ({ groups }, component) => groups.findIndex((group) => group.members.includes(component));

/**
 * The components that are in another group than before, or isolated and were not, or the reverse. A group is the same as
 * the earlier group with which it has the most components in common.
 * @param {Arrangement} before
 * @param {Arrangement} after
 */
export function movesBetween(before, after) {
  const common = (one, other) => one.members.filter((member) => other.members.includes(member)).length;
  const pairs = after.groups.flatMap((group) => before.groups.map((earlier) => ({ group, earlier, count: common(group, earlier) })));
  const same = new Map();
  for (const { group, earlier } of pairs.sort((one, other) => other.count - one.count)) {
    if (!same.has(group) && ![...same.values()].includes(earlier)) same.set(group, earlier);
  }
  const isMoved = (group) => (member) =>
    !same.get(group)?.members.includes(member) || before.isolated.includes(member) !== after.isolated.includes(member);
  return new Set(after.groups.flatMap((group) => group.members.filter(isMoved(group))));
}

/** The request of the API for an arrangement. @param {Arrangement} arrangement */
export function requestOf({ groups, isolated }) {
  const sizes = new Map(groups.flatMap((group) => group.members.map((member) => [member, group.members.length])));
  return {
    groups: Object.fromEntries(groups.map((group) => [group.name, group.members])),
    isolate: isolated.filter((name) => (sizes.get(name) ?? 0) > 1),
  };
}

/** The name of the shape that is the same arrangement, whatever the names of its groups. @param {{name: string, processes: Process[]}[]} shapes @param {Arrangement} arrangement */
export function nameOf(shapes, arrangement) {
  const text = ({ groups, isolated }) => {
    const part = (members) => (members.length > 1 ? members.map((name) => (isolated.includes(name) ? `${name}!` : name)) : members);
    return JSON.stringify(groups.map(({ members }) => part([...members].sort())).sort());
  };
  return shapes.find((shape) => text(arrangementOf(shape.processes)) === text(arrangement))?.name;
}

/** The lines of a manifest that define the arrangement. @param {Arrangement} arrangement @param {string} name */
export function manifestOf(arrangement, name) {
  const list = (names) => `[${names.map((each) => JSON.stringify(each)).join(", ")}]`;
  const { groups, isolate } = requestOf(arrangement);
  const lines = Object.entries(groups).map(([group, members]) => `groups.${group} = ${list(members)}`);
  return [`[shapes.${name}]`, ...lines, ...(isolate.length > 0 ? [`isolate = ${list(isolate)}`] : [])].join("\n");
}

/** The arrangement that a piece of advice suggests. @param {Arrangement} arrangement @param {{kind: string, component: string, caller?: string}} item */
export function advised(arrangement, { kind, component, caller }) {
  if (kind === "isolate") return isolatedAs(arrangement, component, true);
  if (kind === "move") return moved(isolatedAs(arrangement, component, false), component, arrangement.groups.length);
  const target = caller === undefined ? -1 : groupOf(arrangement, caller);
  const fused = isolatedAs(isolatedAs(arrangement, component, false), caller ?? component, false);
  return target < 0 ? fused : moved(fused, component, target);
}

/** A name that no group has. */
function freeName(groups, component) {
  let name = component;
  while (groups.some((group) => group.name === name)) name += "-own";
  return name;
}
