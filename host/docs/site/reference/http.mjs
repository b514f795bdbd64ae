// The HTTP API, by its OpenAPI document.
import { code, plain, read } from './repository.mjs';

/** A JSON Schema in a few words. */
function kind(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split('/').at(-1);
    return `[${name}](#${name.toLowerCase()})`;
  }
  if (schema.oneOf) return schema.oneOf.map(kind).join(' or ');
  if (schema.enum) return schema.enum.map((value) => `\`${JSON.stringify(value)}\``).join(', ');
  if (schema.type === 'array') return `a list${schema.items ? ` of ${kind(schema.items)}` : ''}`;
  return [schema.type ?? 'any'].flat().join(' or ');
}

function fields({ properties = {}, required = [] }) {
  const rows = Object.entries(properties).map(([name, schema]) => {
    const needed = required.includes(name) ? 'yes' : '';
    return `| \`${name}\` | ${kind(schema)} | ${needed} | ${plain(schema.description ?? '')} |`;
  });
  return rows.length ? `| field | | always there | |\n|---|---|---|---|\n${rows.join('\n')}\n` : '';
}

function parameters(list = []) {
  const rows = list.map((it) => `| \`${it.name}\` | ${it.in} | ${plain(it.description ?? '')} |`);
  return rows.length ? `| parameter | in | |\n|---|---|---|\n${rows.join('\n')}\n` : '';
}

/** A body: of what it is, and an example. */
function body(title, content = {}) {
  const [type, { schema, example } = {}] = Object.entries(content)[0] ?? [];
  if (!type) return '';
  const what = schema ? `${title}, \`${type}\`: ${kind(schema)}.\n` : `${title}: \`${type}\`.\n`;
  const inline = schema?.properties ? fields(schema) : '';
  return [what, inline, example === undefined ? '' : code('json', JSON.stringify(example, null, 2))].filter(Boolean).join('\n');
}

export function http() {
  const { info, paths, components } = JSON.parse(read('host/openapi.json'));
  const resolve = (it) => (it.$ref ? components.responses[it.$ref.split('/').at(-1)] : it);
  const example = (response) => Object.values(response.content ?? {})[0]?.example;
  const operation = (method, path, it) => {
    const responses = Object.entries(it.responses).map(([status, reference]) => {
      const response = resolve(reference);
      const errorCode = example(response)?.error?.code;
      return `| ${status} | ${errorCode ? `\`${errorCode}\`` : ''} | ${plain(response.description)} |`;
    });
    const answered = Object.entries(it.responses).filter(([status]) => status < 300).map(([, response]) => body('Answer', resolve(response).content));
    return [
      `## ${method.toUpperCase()} ${plain(path)}\n`,
      `${plain(it.summary)} ${plain(it.description ?? '')}\n`,
      parameters(it.parameters),
      it.requestBody ? body('Body', it.requestBody.content) : '',
      ...answered,
      `| status | code | |\n|---|---|---|\n${responses.join('\n')}\n`,
    ];
  };
  const METHODS = ['get', 'post', 'put', 'delete'];
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).flatMap((method) => {
      const parts = { ...item[method], parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])] };
      return operation(method, path, parts);
    }),
  );
  const schemas = Object.entries(components.schemas).flatMap(([name, schema]) => [`### ${name}\n`, fields(schema)]);
  return [`${plain(info.summary)} ${plain(info.description)}\n`, ...operations, '## What bodies are made of\n', ...schemas].filter(Boolean).join('\n');
}
