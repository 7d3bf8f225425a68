// What the product says of a new order's fields, as what a form shows: nothing of it stands here, so
// a type or a field that is new there is here as well.

const ELSEWHERE = new Set(["user_id", "symbol", "side"]);

/** The words for people: `time_in_force` is "Time in force". */
export function label(name) {
  const text = name.replace(/_ns$/, "").replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1).toLowerCase();
}

function kindOf(name, schema) {
  if (name.endsWith("time_ns")) return "moment";
  const options = schema.anyOf ?? [schema];
  const types = options.flatMap((option) => option.type ?? []);
  if (schema.examples || options.some((option) => option.enum)) return "words";
  if (types.includes("boolean")) return "switch";
  if (types.includes("number")) return "decimal";
  if (types.includes("integer")) return "whole";
  return "text";
}

/** The fields of an order: name, kind, words, and what is said of it. */
export function fieldsOf(description) {
  const order = description.components.schemas.NewOrder;
  const required = new Set(order.required);
  const types = order["x-order-types"] ?? {};
  const fields = Object.entries(order.properties)
    .filter(([name]) => !ELSEWHERE.has(name))
    .map(([name, schema]) => ({
      name,
      label: label(name),
      kind: kindOf(name, schema),
      words: schema.examples ?? schema.enum ?? [],
      about: schema.description ?? "",
      required: required.has(name),
    }));
  const of = (type) => types[type] ?? { required: [], refused: [] };
  return {
    /** The fields that an order of a type may have; `required` are those that it must have. */
    forType: (type) => fields
      .filter(({ name }) => !of(type).refused.includes(name))
      .map((field) => ({ ...field, required: field.required || of(type).required.includes(field.name) })),
    types: fields.find(({ name }) => name === "order_type")?.words ?? [],
    sides: order.properties.side?.examples ?? ["BUY", "SELL"],
  };
}

/** A whole number for JSON, exact beyond 2^53 where the browser can write it so. */
function whole(text) {
  return JSON.rawJSON?.(text) ?? Number(text);
}

/** The order that was filled in: what is empty is left out. */
export function orderOf(fields, values, side, symbol) {
  const order = { symbol, side };
  for (const { name, kind } of fields) {
    const value = values[name];
    if (kind === "switch" ? !value : value === undefined || value === "") continue;
    // Decimals go as they were typed: the product reads them exactly, and says what is wrong.
    if (kind === "moment") order[name] = whole(String(BigInt(Date.parse(value)) * 1_000_000n));
    else order[name] = kind === "whole" && /^\d{1,19}$/.test(value) ? whole(value) : value;
  }
  return order;
}
