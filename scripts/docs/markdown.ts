/** The little of Markdown that the checks of the documents read. */

export interface TableRow {
  /** Counted from 1. */
  line: number;
  /** The head of the table over the last cell. */
  heading: string;
  last: string;
}

/** Rows of all tables without their heads. */
export function tableRows(text: string): TableRow[] {
  const rows: TableRow[] = [];
  let heading: string | undefined;
  for (const [index, line] of proseLines(text).entries()) {
    if (!line.startsWith('|')) heading = undefined;
    else if (heading === undefined) heading = lastCell(line);
    else if (!/^[|\s:-]+$/.test(line)) rows.push({ line: index + 1, heading, last: lastCell(line) });
  }
  return rows;
}

/** Lines of a page; those of fenced code are empty. */
export function proseLines(text: string): string[] {
  let fenced = false;
  return text.split('\n').map((line) => {
    const fence = line.startsWith('```');
    if (fence) fenced = !fenced;
    return fence || fenced ? '' : line;
  });
}

/** Names that GitHub gives to the headings of a page, without `#`. */
export function anchors(text: string): Set<string> {
  const found = new Set<string>();
  for (const line of proseLines(text)) {
    const title = /^#{1,6} (.+)$/.exec(line)?.[1];
    if (title === undefined) continue;
    const slug = title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-');
    let unique = slug;
    for (let n = 1; found.has(unique); n++) unique = `${slug}-${n}`;
    found.add(unique);
  }
  return found;
}

function lastCell(row: string): string {
  return (
    row
      .replace(/\|\s*$/, '')
      .split(/(?<!\\)\|/)
      .at(-1)
      ?.trim() ?? ''
  );
}
