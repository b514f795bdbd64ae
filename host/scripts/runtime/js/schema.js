// `t`: what a value is, for the host, which checks it before the script sees it, and for TypeScript.
import { count, known, object, wrong } from "mixlab:arguments";
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

/** Options of which some are counts of characters or of items. */
function counted(options, names, where, counts = ["min", "max"]) {
    known(options, names, where);
    for (const name of counts) if (options[name] !== undefined) count(options[name], where, name);
    return options;
}

/** A value that is there in JSON as it is; of anything else, the schema would say less than was written. */
function scalar(value, where) {
    if (value === null || typeof value === "string" || typeof value === "boolean" || Number.isFinite(value)) return value;
    throw wrong(where, "value", "a string, a number, a boolean or null", value);
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
    for (const [name, value] of Object.entries(options)) {
        if (value !== undefined && !Number.isFinite(value)) throw wrong(where, name, "a number", value);
    }
    return new Type(only({ type, minimum: min, maximum: max, exclusiveMinimum: above, exclusiveMaximum: below, multipleOf }));
};

export const t = Object.freeze({
    string(options = {}) {
        const { min, max, pattern } = counted(options, ["min", "max", "pattern"], "t.string");
        // What is a pattern of a script's is one of a schema's, but for its flags.
        const text = pattern instanceof RegExp ? pattern.source : pattern;
        return new Type(only({ type: "string", minLength: min, maxLength: max, pattern: text }));
    },
    number: number("number", "t.number"),
    integer: number("integer", "t.integer"),
    boolean: () => new Type({ type: "boolean" }),
    null: () => new Type({ type: "null" }),
    any: () => new Type({}),
    literal: (value) => new Type({ const: scalar(value, "t.literal") }),
    enum: (...values) => new Type({ enum: some(values, "t.enum").map((value) => scalar(value, "t.enum")) }),
    array(item, options = {}) {
        const { min, max, unique } = counted(options, ["min", "max", "unique"], "t.array");
        return new Type(only({ type: "array", items: schemaOf(item, "t.array"), minItems: min, maxItems: max, uniqueItems: unique }));
    },
    tuple: (...items) => new Type(tuple(items, "t.tuple")),
    object(fields, options = {}) {
        const { strict } = known(options, ["strict"], "t.object");
        const written = entries(object(fields, "t.object", "fields"), "t.object");
        const properties = Object.fromEntries(written.map(([name, type]) => [name, schemaOf(type, `t.object, ${name}`)]));
        const required = written.filter(([, type]) => !isOptional(type)).map(([name]) => name);
        return new Type(only({ type: "object", properties, required, additionalProperties: strict ? false : undefined }));
    },
    record(value, options = {}) {
        const { max } = counted(options, ["max"], "t.record", ["max"]);
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
