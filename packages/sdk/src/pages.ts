interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/** Items of all pages, each asked for when those of the page before are taken. */
export async function* itemsOf<T>(page: (cursor: string | undefined) => Promise<Page<T>>): AsyncGenerator<T> {
  let cursor: string | undefined;
  do {
    const { items, next_cursor }: Page<T> = await page(cursor);
    yield* items;
    cursor = next_cursor ?? undefined;
  } while (cursor !== undefined);
}
