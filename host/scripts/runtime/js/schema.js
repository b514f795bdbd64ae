// `t`: what a value is, for the host, which checks it before the script sees it, and for TypeScript.
import { entries } from "mixlab:call";

/** A type of values, with its JSON Schema. */
class Type {
    constructor(schema, isOptional = false) {
        this.schema = Object.freeze(schema);
        this.isOptional = isOptional;
        Object.freeze(this);
    }
}

/** The JSON Schema of a type, or of a schema of a library that can say it (Standard JSON Schema, as Zod 4 does). */
function schemaOf(type, where) {
    if (type instanceof Type) return type.schema;
    const standard = type?.["~standard"]?.jsonSchema?.input;
    if (typeof standard === "function") {
        const { $schema, ...schema } = standard({ target: "draft-2020-12" });
        return schema;
    }
    throw new TypeError(`${where}: not a type; make one with t, such as t.string()`);
}

const isOptional = (type) => type instanceof Type && type.isOptional;

function known(options, names, where) {
    for (const name of Object.keys(options)) {
        if (!names.includes(name)) throw new TypeError(`${where} knows no ${JSON.stringify(name)}; it knows ${names.join(", ")}`);
    }
    return options;
}

/** A list that nothing fits if it is empty. */
function some(list, where) {
    if (list.length === 0) throw new TypeError(`${where}: it takes one at least`);
    return list;
}

/** A schema without what was not said. */
function only(schema) {
    return Object.fromEntries(Object.entries(schema).filter(([, value]) => value !== undefined));
}

const number = (type, where) => (options = {}) => {
    const { min, max, above, below, multipleOf } = known(options, ["min", "max", "above", "below", "multipleOf"], where);
    return new Type(only({ type, minimum: min, maximum: max, exclusiveMinimum: above, exclusiveMaximum: below, multipleOf }));
};

export const t = Object.freeze({
    string(options = {}) {
        const { min, max, pattern } = known(options, ["min", "max", "pattern"], "t.string");
        // What is a pattern of a script's is one of a schema's, but for its flags.
        const text = pattern instanceof RegExp ? pattern.source : pattern;
        return new Type(only({ type: "string", minLength: min, maxLength: max, pattern: text }));
    },
    number: number("number", "t.number"),
    integer: number("integer", "t.integer"),
    boolean: () => new Type({ type: "boolean" }),
    null: () => new Type({ type: "null" }),
    any: () => new Type({}),
    literal: (value) => new Type({ const: value }),
    enum: (...values) => new Type({ enum: some(values, "t.enum") }),
    array(item, options = {}) {
        const { min, max, unique } = known(options, ["min", "max", "unique"], "t.array");
        return new Type(only({ type: "array", items: schemaOf(item, "t.array"), minItems: min, maxItems: max, uniqueItems: unique }));
    },
    tuple: (...items) => new Type(tuple(items, "t.tuple")),
    object(fields, options = {}) {
        const { strict } = known(options, ["strict"], "t.object");
        const written = entries(fields, "t.object");
        const properties = Object.fromEntries(written.map(([name, type]) => [name, schemaOf(type, `t.object, ${name}`)]));
        const required = written.filter(([, type]) => !isOptional(type)).map(([name]) => name);
        return new Type(only({ type: "object", properties, required, additionalProperties: strict ? false : undefined }));
    },
    record(value, options = {}) {
        const { max } = known(options, ["max"], "t.record");
        return new Type(only({ type: "object", additionalProperties: schemaOf(value, "t.record"), maxProperties: max }));
    },
    union: (...types) => new Type({ anyOf: some(types, "t.union").map((type) => schemaOf(type, "t.union")) }),
    optional: (type) => new Type(schemaOf(type, "t.optional"), true),
    nullable: (type) => new Type({ anyOf: [schemaOf(type, "t.nullable"), { type: "null" }] }, isOptional(type)),
    bytes: () =>
        new Type({
            type: "object",
            properties: { _placeholder: { const: true }, num: { type: "integer", minimum: 0 } },
            required: ["_placeholder", "num"],
        }),
    schema: (schema) => new Type(schema),
});

/** The JSON Schema of a list of arguments. Those at its end may be optional. */
export function tuple(items, where) {
    if (!Array.isArray(items)) throw new TypeError(`${where}: not a list of types, such as [t.string()]`);
    const prefixItems = items.map((item, number) => schemaOf(item, `${where}, number ${number + 1}`));
    let needed = items.length;
    while (needed > 0 && isOptional(items[needed - 1])) needed--;
    const early = items.slice(0, needed).findIndex(isOptional);
    if (early >= 0) throw new TypeError(`${where}: number ${early + 1} is optional, and one behind it is not`);
    // JSON Schema has no empty list of items.
    return only({ type: "array", prefixItems: items.length > 0 ? prefixItems : undefined, minItems: needed, maxItems: items.length });
}

/** The JSON Schema of what an event answers: one value. */
export const reply = (type, where) => tuple([type], where);
