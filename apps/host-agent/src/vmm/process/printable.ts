/** Foreign words in a sentence of ours. */
const maxQuote = 200;

/** What a terminal, a log or a page can show as it is, and not more of it than fits a sentence. */
export function printable(text: string): string {
  const shown = text
    .trim()
    .replace(/[^ -~]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return shown.length > maxQuote ? `${shown.slice(0, maxQuote)}…` : shown;
}
